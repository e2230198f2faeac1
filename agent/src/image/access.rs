//! What a registry wants to see before it answers: nothing, a password, or a token.
//!
//! In: its answer 401 and the login that the node has for it. Out: a [`Pass`] for the next request.
//! The token of the Distribution Specification is asked for without any login: the node has one for
//! the controller only, which takes it as it is, and no foreign address is ever shown it.

use reqwest::header::WWW_AUTHENTICATE;
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;

use super::answer::RequestError;
use super::transport::{Transport, bounded};

/// Tokens of registries have 1 to 5 KiB.
const MAX_TOKEN_BYTES: u64 = 64 * 1024;

/// A user and a password.
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: String,
}

/// What a request shows.
#[derive(Clone)]
pub(super) enum Pass {
    /// Nothing.
    None,
    /// The login.
    Login,
    /// A token.
    Token(String),
}

#[derive(Deserialize)]
struct Granted {
    token: Option<String>,
    access_token: Option<String>,
}

impl Pass {
    /// Puts it on a request.
    pub(super) fn show(&self, request: RequestBuilder, login: Option<&Login>) -> RequestBuilder {
        match (self, login) {
            (Self::Login, Some(login)) => request.basic_auth(&login.user, Some(&login.password)),
            (Self::Token(token), _) => request.bearer_auth(token),
            (Self::None | Self::Login, _) => request,
        }
    }

    /// What may be shown after the answer 401; none if there is nothing.
    pub(super) async fn earn(
        transport: &Transport,
        denial: &Response,
        repository: &str,
        login: &Option<Login>,
    ) -> Result<Option<Self>, RequestError> {
        if login.is_some() {
            return Ok(None);
        }
        let challenges = denial.headers().get_all(WWW_AUTHENTICATE);
        let mut challenges = challenges.iter().filter_map(|it| it.to_str().ok());
        let Some(url) = challenges.find_map(|it| token_url(it, repository)) else {
            return Ok(None);
        };
        let answer = transport.http.get(url.clone()).send().await?;
        let status = answer.status();
        let body = bounded(answer, MAX_TOKEN_BYTES).await?;
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            let (status, message) = (status.as_u16(), "no token".to_owned());
            return Err(RequestError::Server { status, message, url: url.into() });
        }
        if !status.is_success() || body.over {
            return Ok(None);
        }
        let granted: Granted = serde_json::from_slice(&body.read)
            .map_err(|error| RequestError::Token { reason: error.to_string() })?;
        Ok(granted.token.or(granted.access_token).map(Self::Token))
    }
}

/// Where a token for pulls is had, if the challenge says so.
fn token_url(challenge: &str, repository: &str) -> Option<Url> {
    let (scheme, _) = challenge.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let scope = format!("repository:{repository}:pull");
    let mut wanted = vec![("scope", scope.as_str())];
    wanted.extend(parameter(challenge, "service").map(|service| ("service", service)));
    Url::parse_with_params(parameter(challenge, "realm")?, wanted).ok()
}

fn parameter<'a>(challenge: &'a str, name: &str) -> Option<&'a str> {
    let mark = format!("{name}=\"");
    let at = challenge.to_ascii_lowercase().find(&mark)?;
    challenge.get(at + mark.len()..)?.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_says_where_the_token_is() {
        let url = |text: &str| token_url(text, "library/app").map(String::from);
        assert_eq!(
            url(r#"Bearer realm="https://auth.example/token",service="hub.example",scope="x""#),
            Some("https://auth.example/token?scope=repository%3Alibrary%2Fapp%3Apull&service=hub.example".to_owned())
        );
        for none in
            [r#"Basic realm="https://a""#, "Bearer", r#"Bearer service="x""#, "Bearer realm=\""]
        {
            assert_eq!(url(none), None, "{none}");
        }
    }
}
