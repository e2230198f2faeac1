//! What can go wrong between a reference and an unpacked image, in words for `limpet ps`.

use std::path::PathBuf;
use std::sync::Arc;

use limpet_oci::Digest;
use limpet_oci::blob::BlobError;
use limpet_oci::layout::LayoutError;
use limpet_oci::manifest::ManifestError;
use limpet_oci::platform::PlatformError;
use limpet_oci::reference::ReferenceError;

use super::answer::RequestError;

/// An image that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The registry has no such image.
    #[error("image \"{image}\" does not exist in registry {registry}")]
    NotFound {
        /// The reference as written.
        image: String,
        /// Which registry was asked.
        registry: String,
    },
    /// The registry does not give it to this node.
    #[error(
        "registry {registry} does not let this node have image \"{image}\": it is private, or does \
         not exist"
    )]
    Denied {
        /// The reference as written.
        image: String,
        /// Which registry was asked.
        registry: String,
    },
    /// Nothing of what is offered runs on this node.
    #[error("image \"{image}\" has no variant for {wanted}: there are {offered}")]
    NoVariant {
        /// The reference as written.
        image: String,
        /// What was looked for.
        wanted: String,
        /// What there is.
        offered: String,
    },
    /// The service says `pull_policy: never`.
    #[error("image \"{image}\" is not on this node, and pull_policy is never")]
    NotHere {
        /// The reference as written.
        image: String,
    },
    /// The text is no image reference.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The text is no platform.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// The digest of the spec is none.
    #[error("the spec names a digest that is none")]
    Digest(#[from] limpet_oci::digest::DigestError),
    /// The network, or the registry, is not there or fails.
    #[error("fetch {what} from registry {registry}")]
    Fetch {
        /// What was wanted of it.
        what: String,
        /// Which registry was asked.
        registry: String,
        /// What went wrong.
        #[source]
        source: Box<RequestError>,
    },
    /// The transfer of a blob broke off, and so did every try to go on.
    #[error("fetch blob {digest} from registry {registry}: the transfer broke off")]
    Broken {
        /// Which blob.
        digest: Digest,
        /// Which registry was asked.
        registry: String,
        /// What went wrong the last time.
        #[source]
        source: std::io::Error,
    },
    /// The registry sent other bytes than it announced.
    #[error("blob {expected} of registry {registry} has the wrong digest: its bytes have {actual}")]
    WrongDigest {
        /// What was announced.
        expected: Digest,
        /// What came.
        actual: Digest,
        /// Which registry was asked.
        registry: String,
    },
    /// The registry sent more or fewer bytes than it announced.
    #[error(
        "blob {digest} of registry {registry} has not the {expected} bytes that were announced"
    )]
    WrongSize {
        /// Which blob.
        digest: Digest,
        /// What was announced.
        expected: u64,
        /// Which registry was asked.
        registry: String,
    },
    /// The image breaks a limit or a rule.
    #[error("image \"{image}\" cannot be used: {reason}")]
    Refused {
        /// The reference as written.
        image: String,
        /// What is wrong.
        reason: String,
    },
    /// A layer cannot be unpacked.
    #[error("unpack layer {digest}")]
    Unpack {
        /// The layer's diff id.
        digest: Digest,
        /// What is wrong.
        #[source]
        source: super::unpack::UnpackError,
    },
    /// A manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The configuration cannot be read.
    #[error("read the configuration {digest} of image \"{image}\"")]
    Config {
        /// The reference as written.
        image: String,
        /// Which configuration.
        digest: Digest,
        /// What is wrong.
        #[source]
        source: Box<oci_spec::OciSpecError>,
    },
    /// A blob cannot be stored or read.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The store's table cannot be read or written.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The file system said no.
    #[error("{attempt} {}", path.display())]
    Io {
        /// What was being tried.
        attempt: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The HTTP client cannot be made, or a thread of it ended early.
    #[error("the agent cannot fetch images: {reason}")]
    Client {
        /// Why not.
        reason: String,
    },
    /// Somebody else wanted the same image at the same time, and this is what came of it.
    #[error(transparent)]
    Shared(Arc<ImageError>),
}

impl ImageError {
    /// Whether trying again may help without anybody changing anything: the network or the
    /// registry failed, not the image.
    #[must_use]
    pub fn is_network(&self) -> bool {
        match self {
            Self::Fetch { source, .. } => source.is_network(),
            Self::Broken { .. } => true,
            Self::Shared(inner) => inner.is_network(),
            _ => false,
        }
    }

    /// The whole chain of causes in one line, for `limpet ps`.
    #[must_use]
    pub fn sentence(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let words = error.to_string();
            // A client's error often repeats its cause.
            if !text.ends_with(&words) {
                text.push_str(": ");
                text.push_str(&words);
            }
            cause = error.source();
        }
        text
    }
}

/// Puts the attempt beside its cause.
pub(super) fn io_error(
    attempt: &'static str,
    path: &std::path::Path,
) -> impl FnOnce(std::io::Error) -> ImageError + use<> {
    let path = path.to_owned();
    move |source| ImageError::Io { attempt, path, source }
}
