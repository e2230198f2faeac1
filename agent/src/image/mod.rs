//! Images: content-addressed store, pulls, verified layers.
//!
//! In: an [`limpet_protocol::spec::ImageSource`] and the [`Registries`] it may come from. Out: a
//! [`PreparedImage`], whose layers are unpacked folders ready for overlayfs. Every byte is verified
//! before it is used, and nothing is written when everything is there already.

use std::path::PathBuf;
use std::sync::Arc;

mod access;
mod answer;
mod check;
mod download;
mod entry;
mod error;
mod layers;
mod missing;
mod pull;
mod registry;
mod store;
mod transport;
mod unpack;
mod wanted;

pub use check::ImageCheck;
pub use error::ImageError;
pub use store::{ImageStore, platform};

/// An image that is on the node, whole and verified.
#[derive(Debug, Clone)]
pub struct PreparedImage {
    /// The digest of its manifest, `sha256:<hex>`.
    pub digest: String,
    /// The image configuration (OCI Image Specification, config.md).
    pub config: oci_spec::image::ImageConfiguration,
    /// What it says of its health (`HEALTHCHECK`).
    pub check: Option<Arc<ImageCheck>>,
    /// The unpacked layers for overlayfs's `lowerdir`, topmost first.
    pub layers: Vec<PathBuf>,
}

/// Where images may come from besides the node's own store.
#[derive(Debug, Clone, Default)]
pub struct Registries {
    /// The controller's own images, once the node knows where they are.
    pub controller: Option<ControllerRegistry>,
    /// Registries (`host` or `host:port`) that are asked by plain HTTP. `localhost` and addresses
    /// in 127.0.0.0/8 always are.
    pub insecure: Vec<String>,
    /// Private CAs.
    pub cas: Vec<RegistryCa>,
}

/// CA certificates in a PEM file. It is read for every pull, so it may be renewed at any time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryCa {
    /// The one registry (`host` or `host:port`) that it is for, which is then trusted by it alone and
    /// always spoken to over TLS. None: every registry, besides the CAs of the system.
    pub registry: Option<String>,
    /// The file.
    pub file: PathBuf,
}

/// The controller's `/v2/`: the pull half of the OCI Distribution Specification by plain HTTP.
#[derive(Clone, PartialEq, Eq)]
pub struct ControllerRegistry {
    /// `host:port`.
    pub address: String,
    /// The node's name: the user of HTTP Basic authentication.
    pub node: String,
    /// The node's secret: the password.
    pub secret: String,
}

impl std::fmt::Debug for ControllerRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ControllerRegistry({} at {})", self.node, self.address)
    }
}

#[cfg(test)]
mod tests;
