//! Manifests: the JSON that says which blobs an image is made of.
//!
//! In: bytes of an index, a manifest or a configuration, in OCI's form or Docker's (schema 2). Out:
//! typed values whose digests are well-formed. Only what Limpet uses is read; the bytes themselves
//! are what is stored and served.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::platform::Platform;

/// Largest index, manifest or configuration: the limit that registries put on manifests.
pub const MAX_MANIFEST_BYTES: u64 = 4 * 1024 * 1024;
/// Most layers of an image: overlayfs takes 500 in one mount, Docker makes at most 127.
pub const MAX_LAYERS: usize = 128;
/// Most variants of an index; a large one has 20.
pub const MAX_VARIANTS: usize = 256;

/// Media type of an image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of an image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an image configuration.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Media type of a layer; compressed ones end in `+gzip` or `+zstd`.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// Docker's media type of an image index.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's media type of an image manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// The annotation that names an image in an OCI layout's `index.json`.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Where content is to be found, and what it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    /// The digest of its bytes.
    pub digest: Digest,
    /// How many bytes it has.
    pub size: u64,
    /// Remarks, by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

impl Descriptor {
    /// A descriptor without remarks.
    #[must_use]
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        let annotations = BTreeMap::new();
        Self { media_type: media_type.to_owned(), digest, size, annotations, platform: None }
    }

    /// The platform in the form that is compared.
    #[must_use]
    pub fn normal_platform(&self) -> Option<Platform> {
        let platform = self.platform.as_ref()?;
        Some(Platform::new(&platform.os, &platform.architecture, platform.variant.as_deref()))
    }
}

/// Variants of one image, or the table of contents of a layout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// [`OCI_INDEX`] or [`DOCKER_INDEX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What there is.
    pub manifests: Vec<Descriptor>,
}

/// One image for one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// [`OCI_MANIFEST`] or [`DOCKER_MANIFEST`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Its configuration.
    pub config: Descriptor,
    /// Its layers, the lowest first.
    pub layers: Vec<Descriptor>,
}

/// What of a configuration is needed to check an image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ConfigHead {
    /// As [`Platform::architecture`].
    #[serde(default)]
    pub architecture: String,
    /// As [`Platform::os`].
    #[serde(default)]
    pub os: String,
    /// As [`Platform::variant`].
    #[serde(default)]
    pub variant: Option<String>,
    /// Its layers.
    pub rootfs: RootFs,
}

impl ConfigHead {
    /// What the image runs on.
    #[must_use]
    pub fn platform(&self) -> Platform {
        Platform::new(&self.os, &self.architecture, self.variant.as_deref())
    }
}

/// The layers of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RootFs {
    /// Digests of the uncompressed layers, the lowest first.
    #[serde(default)]
    pub diff_ids: Vec<Digest>,
}

/// What a digest under `manifests/` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// Several variants.
    Index(Index),
    /// One image.
    Manifest(Manifest),
}

/// Bytes that are no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// They are no JSON, or lack what a manifest must have.
    #[error("{what} cannot be read")]
    Json {
        /// Which document.
        what: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// They are well-formed but not acceptable.
    #[error("{what} {reason}")]
    Refused {
        /// Which document.
        what: String,
        /// What is wrong.
        reason: String,
    },
}

impl Document {
    /// Reads an index or a manifest, whichever it is. `what` names it in an error.
    ///
    /// # Errors
    /// [`ManifestError`] if it is neither, or breaks a limit.
    pub fn parse(bytes: &[u8], what: &str) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shape {
            schema_version: Option<u32>,
            manifests: Option<serde::de::IgnoredAny>,
            layers: Option<serde::de::IgnoredAny>,
        }
        let refused = |reason: &str| ManifestError::Refused {
            what: what.to_owned(),
            reason: reason.to_owned(),
        };
        let shape: Shape = parse_json(bytes, what)?;
        if shape.schema_version == Some(1) {
            return Err(refused("is of Docker's schema 1, which nobody writes since 2017"));
        }
        match (shape.manifests, shape.layers) {
            (Some(_), None) => {
                let index: Index = parse_json(bytes, what)?;
                if index.manifests.len() > MAX_VARIANTS {
                    return Err(refused("names more variants than an index may (256)"));
                }
                Ok(Self::Index(index))
            }
            (None, Some(_)) => {
                let manifest: Manifest = parse_json(bytes, what)?;
                if manifest.layers.len() > MAX_LAYERS {
                    return Err(refused("has more layers than an image may (128)"));
                }
                Ok(Self::Manifest(manifest))
            }
            _ => Err(refused("is neither an image index nor an image manifest")),
        }
    }

    /// The media type, the document's own word first.
    #[must_use]
    pub fn media_type(&self) -> &str {
        let (own, default) = match self {
            Self::Index(index) => (&index.media_type, OCI_INDEX),
            Self::Manifest(manifest) => (&manifest.media_type, OCI_MANIFEST),
        };
        own.as_deref().unwrap_or(default)
    }
}

/// Reads any of these documents. `what` names it in an error.
///
/// # Errors
/// [`ManifestError::Json`].
pub fn parse_json<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &str) -> Result<T, ManifestError> {
    serde_json::from_slice(bytes)
        .map_err(|source| ManifestError::Json { what: what.to_owned(), source })
}
