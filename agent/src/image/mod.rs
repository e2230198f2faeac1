//! Images: content-addressed store, pulls, verified layers.
//!
//! In: an [`limpet_protocol::spec::ImageSource`]. Out: a [`PreparedImage`], whose layers are
//! unpacked folders ready for overlayfs. Every byte is verified before it is used.

use std::path::PathBuf;

/// An image that is on the node, whole and verified.
#[derive(Debug, Clone)]
pub struct PreparedImage {
    /// The digest of its manifest, `sha256:<hex>`.
    pub digest: String,
    /// The image configuration (OCI Image Specification, config.md).
    pub config: oci_spec::image::ImageConfiguration,
    /// The unpacked layers for overlayfs's `lowerdir`, topmost first.
    pub layers: Vec<PathBuf>,
}
