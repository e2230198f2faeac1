//! The doors: a bearer token for people and machines, node and secret for images.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use limpet_protocol::id::NodeId;

use super::Api;
use super::error::ApiError;
use super::registry;
use super::server::Peer;
use crate::auth::{AuthError, verify_admin, verify_node};

/// What anybody may ask: whether it lives, and how to ask.
const OPEN: [&str; 3] = ["/healthz", "/readyz", "/openapi.json"];

/// Lets a request through or answers why not.
pub(super) async fn guard(State(api): State<Api>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if OPEN.contains(&path) {
        return next.run(request).await;
    }
    let for_images = path == "/v2" || path.starts_with("/v2/");
    let shown = if for_images {
        check_node(&api, request.headers())
    } else {
        check_bearer(&api, request.headers())
    };
    let Err(refusal) = shown else { return next.run(request).await };
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
    let wait = peer.and_then(|ip| api.attempts.failed(ip));
    let error = match (refusal, wait) {
        (Refusal::Broken(error), _) => ApiError::internal(&error),
        (Refusal::No(_), Some(wait)) => ApiError::too_many(format!(
            "too many wrong tokens from this address; wait {} seconds",
            wait.as_secs() + 1
        )),
        (Refusal::No(reason), None) => ApiError::unauthorized(reason),
    };
    refuse(error, for_images)
}

fn refuse(error: ApiError, for_images: bool) -> Response {
    let scheme = if for_images { "Basic realm=\"limpet\"" } else { "Bearer realm=\"limpet\"" };
    let mut response =
        if for_images { registry::error_response(&error) } else { error.into_response() };
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
    response
}

enum Refusal {
    /// Not this one.
    No(String),
    /// It could not be checked.
    Broken(AuthError),
}

impl From<AuthError> for Refusal {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Unknown { .. } | AuthError::Expired => Self::No(error.to_string()),
            error => Self::Broken(error),
        }
    }
}

fn credentials<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (given, rest) = value.split_once(' ')?;
    given.eq_ignore_ascii_case(scheme).then_some(rest.trim())
}

fn check_bearer(api: &Api, headers: &HeaderMap) -> Result<(), Refusal> {
    let token = credentials(headers, "bearer").ok_or_else(|| {
        Refusal::No("a token is needed: Authorization: Bearer TOKEN (see admin.token in the controller's data folder)".to_owned())
    })?;
    Ok(verify_admin(&api.store, token)?)
}

fn check_node(api: &Api, headers: &HeaderMap) -> Result<(), Refusal> {
    let no = || Refusal::No("images are for nodes: Basic authentication, node and secret".into());
    let text = credentials(headers, "basic").and_then(decode_base64).ok_or_else(no)?;
    let text = String::from_utf8(text).map_err(|_| no())?;
    let (node, secret) = text.split_once(':').ok_or_else(no)?;
    let node: NodeId = node.parse().map_err(|_| no())?;
    Ok(verify_node(&api.store, &node, secret)?)
}

/// Base64 as RFC 4648, section 4, has it; padding may be missing.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let (mut bits, mut count) = (0_u32, 0);
    for digit in text.trim_end_matches('=').bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
        bits &= 0xffff;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_as_written() {
        let table = [("", ""), ("bjE6c2VjcmV0", "n1:secret"), ("YQ==", "a"), ("YWI", "ab")];
        for (text, bytes) in table {
            assert_eq!(decode_base64(text).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        assert_eq!(decode_base64("+/+/").as_deref(), Some(&[0xfb, 0xff, 0xbf][..]));
        for wrong in ["a b", "ä", "YQ=a"] {
            assert_eq!(decode_base64(wrong), None, "{wrong}");
        }
    }
}
