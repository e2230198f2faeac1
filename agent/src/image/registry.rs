//! One registry, asked for one repository: manifests whole, blobs as streams from an offset.
//!
//! In: a reference and the [`Registries`] that the node knows. Out: bytes that are checked against
//! their digest (manifests) or have to be by the caller (blobs). Failures of the network are tried
//! again with growing pauses; answers of the registry are not.

use std::sync::Once;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use limpet_oci::manifest::{
    DOCKER_INDEX, DOCKER_MANIFEST, MAX_MANIFEST_BYTES, OCI_INDEX, OCI_MANIFEST,
};
use limpet_oci::{Digest, Reference};
use oci_client::Client;
use oci_client::client::{BlobResponse, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;

use super::{ControllerRegistry, ImageError, Registries};

/// A node on a slow link still connects within this; an absent registry costs no more a try.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A transfer that stands still this long is given up and resumed.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Tries of one request; the loop asks again later by its own back-off.
pub(super) const TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// A repository of a registry.
pub(super) struct Registry {
    client: Client,
    image: oci_client::Reference,
    auth: RegistryAuth,
    /// The reference as written, for messages.
    written: String,
    /// Where, for messages.
    pub(super) name: String,
}

/// A blob on its way.
pub(super) struct BlobStream {
    /// Whether it starts at the offset that was asked for; otherwise at 0.
    pub(super) resumed: bool,
    /// The bytes.
    pub(super) stream: BoxStream<'static, Result<Bytes, std::io::Error>>,
}

impl Registry {
    /// The controller's images.
    pub(super) fn of_controller(
        controller: &ControllerRegistry,
        reference: &Reference,
        written: &str,
    ) -> Result<Self, ImageError> {
        let auth = RegistryAuth::Basic(controller.node.clone(), controller.secret.clone());
        let name = format!("{} (the controller)", controller.address);
        let image = spell(controller.address.clone(), reference);
        Ok(Self { client: client(true)?, image, auth, written: written.to_owned(), name })
    }

    /// The registry that the reference names.
    pub(super) fn of_reference(
        reference: &Reference,
        registries: &Registries,
        written: &str,
    ) -> Result<Self, ImageError> {
        let host = reference.registry();
        let plain = is_loopback(host) || registries.insecure.iter().any(|it| it == host);
        let image = spell(host.to_owned(), reference);
        let (auth, name) = (RegistryAuth::Anonymous, host.to_owned());
        Ok(Self { client: client(plain)?, image, auth, written: written.to_owned(), name })
    }

    /// The bytes of an index or manifest: the one with the digest, or the one that the tag names.
    pub(super) async fn manifest(&self, digest: Option<Digest>) -> Result<Bytes, ImageError> {
        const ACCEPTED: &[&str] = &[OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST];
        let image = digest.map_or_else(|| self.image.clone(), |it| self.pinned(&it));
        let what = digest.map_or_else(|| "the manifest".to_owned(), |it| format!("manifest {it}"));
        let ask = || self.client.pull_manifest_raw(&image, &self.auth, ACCEPTED);
        let (bytes, _) =
            retry(|| async { ask().await.map_err(|source| self.failure(&what, source)) }).await?;
        if bytes.len() as u64 > MAX_MANIFEST_BYTES {
            let reason = format!("{what} is larger than {MAX_MANIFEST_BYTES} bytes");
            return Err(ImageError::Refused { image: self.written.clone(), reason });
        }
        let actual = Digest::of(&bytes);
        match digest {
            Some(expected) if expected != actual => Err(self.wrong_digest(expected, actual)),
            _ => Ok(bytes),
        }
    }

    /// Starts the transfer of a blob. One try: the caller knows how far it came.
    pub(super) async fn blob(
        &self,
        digest: &Digest,
        offset: u64,
    ) -> Result<BlobStream, ImageError> {
        self.client.store_auth_if_needed(self.image.resolve_registry(), &self.auth).await;
        let name = digest.to_string();
        let answer = self.client.pull_blob_stream_partial(&self.image, name.as_str(), offset, None);
        let failed = |source| self.failure(&format!("blob {digest}"), source);
        Ok(match answer.await.map_err(failed)? {
            BlobResponse::Partial(blob) => BlobStream { resumed: true, stream: blob.stream },
            BlobResponse::Full(blob) => BlobStream { resumed: false, stream: blob.stream },
        })
    }

    pub(super) fn wrong_digest(&self, expected: Digest, actual: Digest) -> ImageError {
        ImageError::WrongDigest { expected, actual, registry: self.name.clone() }
    }

    fn pinned(&self, digest: &Digest) -> oci_client::Reference {
        self.image.clone_with_digest(digest.to_string())
    }

    fn failure(&self, what: &str, source: OciDistributionError) -> ImageError {
        let (image, registry) = (self.written.clone(), self.name.clone());
        match answer(&source) {
            Answer::NotFound => ImageError::NotFound { image, registry },
            Answer::Denied => ImageError::Denied { image, registry },
            Answer::Other => {
                ImageError::Fetch { what: what.to_owned(), registry, source: Box::new(source) }
            }
        }
    }
}

enum Answer {
    NotFound,
    Denied,
    Other,
}

fn answer(error: &OciDistributionError) -> Answer {
    match error {
        OciDistributionError::ServerError { code: 404, .. } => Answer::NotFound,
        OciDistributionError::ServerError { code: 401 | 403, .. }
        | OciDistributionError::UnauthorizedError { .. }
        | OciDistributionError::AuthenticationFailure(_) => Answer::Denied,
        OciDistributionError::RegistryError { envelope, .. } => {
            match envelope.errors.first().map(|error| &error.code) {
                Some(
                    OciErrorCode::ManifestUnknown
                    | OciErrorCode::NameUnknown
                    | OciErrorCode::NotFound
                    | OciErrorCode::BlobUnknown
                    | OciErrorCode::ManifestBlobUnknown,
                ) => Answer::NotFound,
                Some(OciErrorCode::Unauthorized | OciErrorCode::Denied) => Answer::Denied,
                _ => Answer::Other,
            }
        }
        _ => Answer::Other,
    }
}

/// Tries again while it is the network that fails.
pub(super) async fn retry<T, F: Future<Output = Result<T, ImageError>>>(
    mut attempt: impl FnMut() -> F,
) -> Result<T, ImageError> {
    let mut tried = 1;
    loop {
        match attempt().await {
            Err(error) if error.is_network() && tried < TRIES => {
                tracing::debug!(tried, error = error.sentence(), "fetch again");
                pause(tried).await;
                tried += 1;
            }
            result => return result,
        }
    }
}

/// Waits before the next try: twice as long every time.
pub(super) async fn pause(tried: u32) {
    tokio::time::sleep(FIRST_PAUSE * 2_u32.saturating_pow(tried.saturating_sub(1))).await;
}

fn spell(host: String, reference: &Reference) -> oci_client::Reference {
    let repository = reference.repository().to_owned();
    match (reference.tag(), reference.digest()) {
        (_, Some(digest)) => {
            oci_client::Reference::with_digest(host, repository, digest.to_string())
        }
        (tag, None) => {
            let tag = tag.unwrap_or("latest").to_owned();
            oci_client::Reference::with_tag(host, repository, tag)
        }
    }
}

fn is_loopback(registry: &str) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => registry.split(':').next().unwrap_or(registry),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|it| it.is_loopback())
}

fn client(plain: bool) -> Result<Client, ImageError> {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // An error says that another part of the program has set one: as good.
        drop(rustls::crypto::ring::default_provider().install_default());
    });
    let config = ClientConfig {
        protocol: if plain { ClientProtocol::Http } else { ClientProtocol::Https },
        // By plain HTTP there is nobody to check; the system's certificates, which may be missing
        // on a small node and take memory, are then not loaded. Content is checked by its digest.
        accept_invalid_certificates: plain,
        connect_timeout: Some(CONNECT_TIMEOUT),
        read_timeout: Some(READ_TIMEOUT),
        user_agent: concat!("limpet/", env!("CARGO_PKG_VERSION")),
        platform_resolver: None,
        ..ClientConfig::default()
    };
    Client::try_from(config).map_err(|error| {
        let hint = "are there CA certificates on this node (package ca-certificates)?";
        ImageError::Client { reason: format!("{error}; {hint}") }
    })
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
