//! How a registry is spoken to: TLS or not, which certificates are trusted, and how long is waited.
//!
//! In: a host and what the node was told about registries. Out: an HTTP client, and bodies that never
//! grow beyond a limit.

use std::fs::File;
use std::io::Read as _;
use std::sync::Once;
use std::time::Duration;

use reqwest::{Certificate, Client, Response};

use super::error::io_error;
use super::{ImageError, Registries, RegistryCa};

/// A node on a slow link still connects within this; an absent registry costs no more a try.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A transfer that stands still this long is given up and resumed.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// A bundle of all public CAs has 250 KiB.
const MAX_CA_BYTES: u64 = 1024 * 1024;

/// The way to one registry.
pub(super) struct Transport {
    pub(super) http: Client,
    /// `http` or `https`.
    pub(super) scheme: &'static str,
}

impl Transport {
    /// By HTTP. There is nobody to check; the system's certificates, which may be missing on a small
    /// node and take memory, are then not loaded. Content is checked by its digest.
    pub(super) fn plain() -> Result<Self, ImageError> {
        let http = build(builder().tls_danger_accept_invalid_certs(true))?;
        Ok(Self { http, scheme: "http" })
    }

    /// As the node was told to speak to this host.
    pub(super) fn to(host: &str, registries: &Registries) -> Result<Self, ImageError> {
        let own = registries.cas.iter().filter(|ca| ca.registry.as_deref() == Some(host));
        let own = certificates(own)?;
        if !own.is_empty() {
            return Ok(Self { http: build(builder().tls_certs_only(own))?, scheme: "https" });
        }
        if is_loopback(host) || registries.insecure.iter().any(|it| it == host) {
            return Self::plain();
        }
        let all = certificates(registries.cas.iter().filter(|ca| ca.registry.is_none()))?;
        Ok(Self { http: build(builder().tls_certs_merge(all))?, scheme: "https" })
    }
}

/// The body of an answer, as far as it was read.
pub(super) struct Body {
    pub(super) read: Vec<u8>,
    /// Whether there is more than the limit.
    pub(super) over: bool,
}

/// Reads a body up to a limit.
pub(super) async fn bounded(mut response: Response, limit: u64) -> Result<Body, reqwest::Error> {
    let mut read = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        read.extend_from_slice(&chunk);
        if read.len() as u64 > limit {
            return Ok(Body { read, over: true });
        }
    }
    Ok(Body { read, over: false })
}

fn builder() -> reqwest::ClientBuilder {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // An error says that another part of the program has set one: as good.
        drop(rustls::crypto::ring::default_provider().install_default());
    });
    Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .user_agent(concat!("limpet/", env!("CARGO_PKG_VERSION")))
}

fn build(builder: reqwest::ClientBuilder) -> Result<Client, ImageError> {
    builder.build().map_err(|error| {
        let hint = "are there CA certificates on this node (package ca-certificates)?";
        ImageError::Client { reason: format!("{error}; {hint}") }
    })
}

fn certificates<'a>(
    cas: impl Iterator<Item = &'a RegistryCa>,
) -> Result<Vec<Certificate>, ImageError> {
    let mut all = Vec::new();
    for ca in cas {
        let mut pem = Vec::new();
        let file = File::open(&ca.file).map_err(io_error("open registry CA", &ca.file))?;
        let read = file.take(MAX_CA_BYTES).read_to_end(&mut pem);
        read.map_err(io_error("read registry CA", &ca.file))?;
        let found = Certificate::from_pem_bundle(&pem).unwrap_or_default();
        if found.is_empty() {
            let reason = format!("{} holds no certificate in PEM form", ca.file.display());
            return Err(ImageError::Client { reason });
        }
        all.extend(found);
    }
    Ok(all)
}

fn is_loopback(registry: &str) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => registry.split(':').next().unwrap_or(registry),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|it| it.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_asked_by_plain_http() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:80", "127.9.9.9", "[::1]:5000"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["docker.io", "localhost.example", "127.0.0.1.example", "128.0.0.1:80"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
