//! One registry, asked for one repository: manifests whole, blobs as streams from an offset.
//!
//! In: a reference and the [`Registries`] that the node knows. Out: bytes that are checked against
//! their digest (manifests) or have to be by the caller (blobs). Failures of the network are tried
//! again with growing pauses; answers of the registry are not. A registry may be hostile: nothing
//! that it sends is held in memory beyond a limit.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use futures_util::stream::BoxStream;
use limpet_oci::manifest::{
    DOCKER_INDEX, DOCKER_MANIFEST, MAX_MANIFEST_BYTES, OCI_INDEX, OCI_MANIFEST,
};
use limpet_oci::{Digest, Reference};
use reqwest::header::{ACCEPT, RANGE};
use reqwest::{Response, StatusCode};
use ring::rand::SecureRandom as _;

use super::access::{Login, Pass};
use super::answer::{Meaning, RequestError, good};
use super::transport::{Transport, bounded};
use super::{ControllerRegistry, ImageError, Registries};

/// Tries of one request; the loop asks again later by its own back-off.
pub(super) const TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Where the images of `docker.io` are really had.
const DOCKER_HUB: &str = "index.docker.io";

/// A repository of a registry.
pub(super) struct Registry {
    transport: Transport,
    /// `https://host/v2/repository`.
    base: String,
    repository: String,
    /// The tag or digest that the reference names.
    wanted: String,
    login: Option<Login>,
    /// What the last answer was had with.
    pass: Mutex<Pass>,
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
        let name = format!("{} (the controller)", controller.address);
        let login = Login { user: controller.node.clone(), password: controller.secret.clone() };
        let named = (controller.address.as_str(), reference);
        let registry = Self::new(Transport::plain()?, named, written, name);
        Ok(Self { login: Some(login), pass: Mutex::new(Pass::Login), ..registry })
    }

    /// The registry that the reference names.
    pub(super) fn of_reference(
        reference: &Reference,
        registries: &Registries,
        written: &str,
    ) -> Result<Self, ImageError> {
        let host = reference.registry();
        let transport = Transport::to(host, registries)?;
        let named = (if host == "docker.io" { DOCKER_HUB } else { host }, reference);
        Ok(Self::new(transport, named, written, host.to_owned()))
    }

    fn new(
        transport: Transport,
        (host, reference): (&str, &Reference),
        written: &str,
        name: String,
    ) -> Self {
        let repository = reference.repository().to_owned();
        let base = format!("{}://{host}/v2/{repository}", transport.scheme);
        let digest = reference.digest().map(|digest| digest.to_string());
        let wanted = digest.unwrap_or_else(|| reference.tag().unwrap_or("latest").to_owned());
        let pass = Mutex::new(Pass::None);
        let written = written.to_owned();
        Self { transport, base, repository, wanted, login: None, pass, written, name }
    }

    /// The bytes of an index or manifest: the one with the digest, or the one that the tag names.
    pub(super) async fn manifest(&self, digest: Option<Digest>) -> Result<Bytes, ImageError> {
        let what = digest.map_or_else(|| "the manifest".to_owned(), |it| format!("manifest {it}"));
        let name = digest.map_or_else(|| self.wanted.clone(), |it| it.to_string());
        let path = format!("manifests/{name}");
        let ask = async || {
            let accept = [OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST].join(", ");
            let response = self.get(&path, Some(accept), 0).await?;
            Ok(bounded(response, MAX_MANIFEST_BYTES).await?)
        };
        let bytes = retry(|| async { ask().await.map_err(|it| self.failure(&what, it)) }).await?;
        if bytes.over {
            let reason = format!("{what} is larger than {MAX_MANIFEST_BYTES} bytes");
            return Err(ImageError::Refused { image: self.written.clone(), reason });
        }
        let actual = Digest::of(&bytes.read);
        match digest {
            Some(expected) if expected != actual => Err(self.wrong_digest(expected, actual)),
            _ => Ok(bytes.read.into()),
        }
    }

    /// Starts the transfer of a blob. One try: the caller knows how far it came.
    pub(super) async fn blob(
        &self,
        digest: &Digest,
        offset: u64,
    ) -> Result<BlobStream, ImageError> {
        let failed = |source| self.failure(&format!("blob {digest}"), source);
        let answer = self.get(&format!("blobs/{digest}"), None, offset).await;
        let response = answer.map_err(failed)?;
        let resumed = response.status() == StatusCode::PARTIAL_CONTENT;
        let stream = Box::pin(response.bytes_stream().map_err(std::io::Error::other));
        Ok(BlobStream { resumed, stream })
    }

    /// Asks, and asks once more with what the registry wants to see first.
    async fn get(
        &self,
        path: &str,
        accept: Option<String>,
        offset: u64,
    ) -> Result<Response, RequestError> {
        let url = format!("{}/{path}", self.base);
        let send = async |pass: &Pass| {
            let mut request = pass.show(self.transport.http.get(&url), self.login.as_ref());
            if let Some(accept) = &accept {
                request = request.header(ACCEPT, accept);
            }
            if offset > 0 {
                request = request.header(RANGE, format!("bytes={offset}-"));
            }
            request.send().await
        };
        let pass = self.pass.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let response = send(&pass).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return good(response).await;
        }
        let pass = Pass::earn(&self.transport, &response, &self.repository, &self.login).await?;
        let Some(pass) = pass else { return good(response).await };
        // Unread it would be a connection that is kept for nothing.
        drop(response);
        let response = good(send(&pass).await?).await?;
        *self.pass.lock().unwrap_or_else(PoisonError::into_inner) = pass;
        Ok(response)
    }

    pub(super) fn wrong_digest(&self, expected: Digest, actual: Digest) -> ImageError {
        ImageError::WrongDigest { expected, actual, registry: self.name.clone() }
    }

    fn failure(&self, what: &str, source: RequestError) -> ImageError {
        let (image, registry) = (self.written.clone(), self.name.clone());
        match source.meaning() {
            Meaning::NotFound => ImageError::NotFound { image, registry },
            Meaning::Denied => ImageError::Denied { image, registry },
            Meaning::Other => {
                ImageError::Fetch { what: what.to_owned(), registry, source: Box::new(source) }
            }
        }
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

/// Waits before the next try: twice as long every time, the second half of it left to chance, so
/// that nodes that lost one registry together do not all come back in one moment.
pub(super) async fn pause(tried: u32) {
    let mut chance = [u8::MAX];
    if ring::rand::SystemRandom::new().fill(&mut chance).is_err() {
        tracing::debug!("no randomness for a pause: it is taken whole");
    }
    let half = FIRST_PAUSE * 2_u32.saturating_pow(tried.saturating_sub(1)) / 2;
    tokio::time::sleep(half + half * u32::from(chance[0]) / u32::from(u8::MAX)).await;
}
