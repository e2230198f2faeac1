//! References: the names that people give to images, read as Docker reads them.
//!
//! In: `busybox`, `team/app:1.2`, `registry.example:5000/a/b@sha256:…`. Out: a [`Reference`] with
//! its parts, the canonical form (`docker.io/library/busybox:latest`) and the familiar one.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;

/// The registry of a reference that names none.
pub const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_NAMESPACE: &str = "library/";
const DEFAULT_TAG: &str = "latest";
/// Docker's limit of a repository's name, registry included.
const MAX_NAME_BYTES: usize = 255;
/// The Distribution Specification's limit of a tag.
const MAX_TAG_BYTES: usize = 128;

/// The name of an image: registry, repository, and tag or digest or both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Text that is no reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not an image reference: {reason}")]
pub struct ReferenceError {
    /// What was read.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Reference {
    /// Host and port of the registry; `docker.io` if the text named none.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository in the registry, `library/busybox`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; none only where there is a digest.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if the reference is pinned to one.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same name pinned to a digest.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// As short as people write it: `busybox:latest`, `team/app:1.2`, `host:5000/a:1`.
    #[must_use]
    pub fn familiar(&self) -> String {
        let repository = if self.registry == DEFAULT_REGISTRY {
            let short = self.repository.strip_prefix(DEFAULT_NAMESPACE);
            short.filter(|rest| !rest.contains('/')).unwrap_or(&self.repository).to_owned()
        } else {
            format!("{}/{}", self.registry, self.repository)
        };
        format!("{repository}{}", self.suffix())
    }

    fn suffix(&self) -> String {
        let tag = self.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = self.digest.as_ref().map(|digest| format!("@{digest}")).unwrap_or_default();
        tag + &digest
    }
}

impl fmt::Display for Reference {
    /// The canonical form: nothing is left to defaults.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.registry, self.repository, self.suffix())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let wrong = |reason| ReferenceError { text: text.chars().take(300).collect(), reason };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.parse();
                (rest, Some(digest.map_err(|_| wrong("after @ comes sha256: and 64 hex digits"))?))
            }
            None => (text, None),
        };
        // A colon behind the last slash starts a tag; one before it is a port.
        let after_slash = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest[after_slash..].find(':') {
            Some(at) => (&rest[..after_slash + at], Some(&rest[after_slash + at + 1..])),
            None => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong(
                "a tag has up to 128 letters, digits, _ . - and starts with none of . -",
            ));
        }
        let (registry, repository) = split_registry(name);
        if !is_registry(&registry) {
            return Err(wrong("the registry is not a host name with an optional port"));
        }
        if registry.len() + repository.len() >= MAX_NAME_BYTES {
            return Err(wrong("the name is longer than 255 bytes"));
        }
        if !repository.split('/').all(is_component) {
            let reason = "a repository is lower-case letters and digits, joined by . _ __ - and /";
            return Err(wrong(reason));
        }
        let default_tag = digest.is_none().then_some(DEFAULT_TAG);
        Ok(Self { registry, repository, tag: tag.or(default_tag).map(str::to_owned), digest })
    }
}

fn split_registry(name: &str) -> (String, String) {
    let first = name.split_once('/').filter(|(host, _)| {
        host.contains(['.', ':']) || *host == "localhost" || host.contains(char::is_uppercase)
    });
    let (host, path) = first.unwrap_or((DEFAULT_REGISTRY, name));
    let host = if host == "index.docker.io" { DEFAULT_REGISTRY } else { host };
    if host == DEFAULT_REGISTRY && !path.contains('/') {
        return (host.to_owned(), format!("{DEFAULT_NAMESPACE}{path}"));
    }
    (host.to_owned(), path.to_owned())
}

fn is_registry(text: &str) -> bool {
    if let Some(rest) = text.strip_prefix('[') {
        // An IPv6 address in brackets.
        let Some((address, port)) = rest.split_once(']') else { return false };
        return address.parse::<std::net::Ipv6Addr>().is_ok()
            && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.split('.').all(is_label) && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.parse::<u16>().is_ok() && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_tag(text: &str) -> bool {
    let starts_well = text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_');
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    starts_well && text.len() <= MAX_TAG_BYTES && text.bytes().all(allowed)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if !text.bytes().next().is_some_and(plain) || !text.bytes().last().is_some_and(plain) {
        return false;
    }
    text.split(|c: char| c.is_ascii() && plain(c as u8))
        .filter(|between| !between.is_empty())
        .all(|between| matches!(between, "." | "_" | "__") || between.bytes().all(|b| b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn references_are_read_as_docker_reads_them() {
        let pinned = format!("ghcr.io/a/b@{HASH}");
        let both = format!("localhost/x:2@{HASH}");
        let table = [
            ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
            ("team/app", "docker.io/team/app:latest", "team/app:latest"),
            ("docker.io/library/a", "docker.io/library/a:latest", "a:latest"),
            ("docker.io/a", "docker.io/library/a:latest", "a:latest"),
            ("index.docker.io/b/a", "docker.io/b/a:latest", "b/a:latest"),
            ("localhost/a", "localhost/a:latest", "localhost/a:latest"),
            ("localhost:5000/a/b:v1", "localhost:5000/a/b:v1", "localhost:5000/a/b:v1"),
            ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
            ("quay.io/a__b/c-d.e", "quay.io/a__b/c-d.e:latest", "quay.io/a__b/c-d.e:latest"),
            (pinned.as_str(), pinned.as_str(), pinned.as_str()),
            (both.as_str(), both.as_str(), both.as_str()),
        ];
        for (text, canonical, familiar) in table {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), canonical);
            assert_eq!(reference.familiar(), familiar);
            assert_eq!(canonical.parse(), Ok(reference.clone()));
            assert_eq!(familiar.parse(), Ok(reference));
        }
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        let long = "a".repeat(300);
        let bad = [
            "",
            ":",
            "/",
            "a/",
            "/a",
            "A",
            "a:",
            "a:-",
            "a@",
            "a@sha256:00",
            "a b",
            "a//b",
            "a/../b",
            "x.y:port/a",
            "-a.b/c",
            "a___b",
            "a:b:c",
            "ä",
            "[::1/a",
            "http://a/b",
            &long,
        ];
        for text in bad {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
