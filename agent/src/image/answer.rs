//! What a registry answers when it does not give what was asked for.
//!
//! In: an HTTP response. Out: the response if it is good, else a [`RequestError`] with what the registry says, in
//! the form that the OCI Distribution Specification gives errors ("Error Codes").

use reqwest::{Response, StatusCode};
use serde::Deserialize;

use super::transport::bounded;

/// What is read of an error's body: it is shown to people.
const MAX_ERROR_BYTES: u64 = 8 * 1024;
/// What is shown of an error that is no registry's.
const SHOWN_ERROR_BYTES: usize = 300;

/// A request that was not answered with what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Nothing came, or it broke off.
    #[error(transparent)]
    Request(#[from] reqwest::Error),
    /// The registry does not know who asks.
    #[error("not authorized: {url}")]
    Unauthorized {
        /// What was asked for.
        url: String,
    },
    /// The registry says what is wrong.
    #[error("the registry answers {code}: {message} ({url})")]
    Registry {
        /// Its word for it, such as `MANIFEST_UNKNOWN`.
        code: String,
        /// Its sentence.
        message: String,
        /// What was asked for.
        url: String,
    },
    /// Somebody else answered, or the registry with something else.
    #[error("the server answers {status}: {message} ({url})")]
    Server {
        /// The HTTP status.
        status: u16,
        /// The beginning of what came with it.
        message: String,
        /// What was asked for.
        url: String,
    },
    /// What should be a token is none.
    #[error("the token server's answer cannot be read: {reason}")]
    Token {
        /// Why not.
        reason: String,
    },
}

/// What an error means for the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It is not there.
    NotFound,
    /// It is not given to this node.
    Denied,
    /// Something else.
    Other,
}

impl RequestError {
    /// What it means for the image.
    pub(super) fn meaning(&self) -> Meaning {
        match self {
            Self::Server { status: 404, .. } => Meaning::NotFound,
            Self::Server { status: 401 | 403, .. } | Self::Unauthorized { .. } => Meaning::Denied,
            Self::Registry { code, .. } => match code.as_str() {
                "MANIFEST_UNKNOWN"
                | "NAME_UNKNOWN"
                | "NOT_FOUND"
                | "BLOB_UNKNOWN"
                | "MANIFEST_BLOB_UNKNOWN" => Meaning::NotFound,
                "UNAUTHORIZED" | "DENIED" => Meaning::Denied,
                _ => Meaning::Other,
            },
            _ => Meaning::Other,
        }
    }

    /// Whether it is the network or an overloaded server, so that trying again may help.
    pub(super) fn is_network(&self) -> bool {
        const TOO_MANY_REQUESTS: u16 = 429;
        match self {
            Self::Request(error) => !error.is_builder() && !error.is_redirect(),
            Self::Server { status, .. } => *status >= 500 || *status == TOO_MANY_REQUESTS,
            _ => false,
        }
    }
}

#[derive(Deserialize)]
struct Envelope {
    errors: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    code: String,
    #[serde(default)]
    message: String,
}

/// An answer that is none is an error, with what the registry says about it.
pub(super) async fn good(response: Response) -> Result<Response, RequestError> {
    let (status, url) = (response.status(), response.url().to_string());
    if status.is_success() {
        return Ok(response);
    }
    if status == StatusCode::UNAUTHORIZED {
        return Err(RequestError::Unauthorized { url });
    }
    let body = bounded(response, MAX_ERROR_BYTES).await?.read;
    if status.is_client_error()
        && let Ok(envelope) = serde_json::from_slice::<Envelope>(&body)
        && let Some(Entry { code, message }) = envelope.errors.into_iter().next()
    {
        return Err(RequestError::Registry { code, message, url });
    }
    let shown = body.get(..SHOWN_ERROR_BYTES).unwrap_or(&body);
    let message = String::from_utf8_lossy(shown).into_owned();
    Err(RequestError::Server { status: status.as_u16(), message, url })
}
