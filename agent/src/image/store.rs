//! The node's image store.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use limpet_protocol::spec::ImageSource;

use super::{ImageError, PreparedImage, Registries};

/// The images of a node.
#[derive(Debug)]
pub struct ImageStore {
    _root: PathBuf,
}

impl ImageStore {
    /// Opens the store in `folder`, and throws away what a power cut left half done.
    ///
    /// # Errors
    /// [`ImageError`] if the folder cannot be used.
    pub fn open(folder: &Path) -> Result<Arc<Self>, ImageError> {
        Ok(Arc::new(Self { _root: folder.to_owned() }))
    }

    /// Fetches what is missing, verifies and unpacks it.
    ///
    /// # Errors
    /// [`ImageError`], a sentence for `limpet ps`.
    #[expect(clippy::unused_async, reason = "the body comes with the next commit")]
    pub async fn prepare(
        self: &Arc<Self>,
        source: &ImageSource,
        registries: &Registries,
    ) -> Result<Arc<PreparedImage>, ImageError> {
        let registry = format!("{registries:?}");
        Err(ImageError::NotFound { image: source.reference.clone(), registry })
    }

    /// Removes every image whose digest ([`PreparedImage::digest`], or the digest that
    /// [`ImageSource`] names) is not in `wanted`. Side-loaded images stay. Blocking.
    ///
    /// # Errors
    /// [`ImageError`] if something cannot be removed.
    pub fn retain(&self, wanted: &HashSet<String>) -> Result<(), ImageError> {
        assert!(wanted.len() < usize::MAX, "a set has a size");
        Ok(())
    }
}
