//! Archives: the files in which images travel without a registry.
//!
//! In: a tar stream (plain, gzip or zstd) as `docker save`, `podman save`, `skopeo copy` and
//! `buildah push` write them, or a folder in the OCI image layout. Out: blobs in a
//! [`BlobStore`] and one [`LoadedImage`] for each image and name. Everything is staged and checked
//! first, and stored only when the whole archive was read: a bad one leaves nothing behind.

mod docker;
mod oci;
mod parts;

use std::io::Read;
use std::path::Path;

use crate::blob::{BlobError, BlobStore};
use crate::digest::Digest;
use crate::manifest::ManifestError;
use crate::platform::Platform;
use crate::reference::ReferenceError;

use parts::{FolderParts, Part, Parts, TarParts};

/// Most images of one archive.
const MAX_IMAGES: usize = 1000;

/// An image that came out of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedImage {
    /// Its canonical name, if the archive gave it one.
    pub reference: Option<String>,
    /// The media type of its index or manifest.
    pub media_type: String,
    /// The digest of its index or manifest.
    pub digest: Digest,
    /// The size of its index or manifest, in bytes.
    pub manifest_size: u64,
    /// The size of all its blobs, in bytes.
    pub size: u64,
    /// The platforms of which the archive has everything.
    pub platforms: Vec<Platform>,
}

/// An archive that cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The stream ends early, is no tar file, or cannot be read.
    #[error("read the image archive{place}")]
    Read {
        /// Where in it, ` at NAME`, as far as known.
        place: String,
        /// What is wrong.
        #[source]
        source: std::io::Error,
    },
    /// The stream is a tar file that holds no image.
    #[error(
        "this is no image archive: it has neither manifest.json (docker save) nor index.json \
         (OCI layout); `docker save`, `podman save` and `skopeo copy` write such archives"
    )]
    NoImage,
    /// The archive holds something that no image archive has.
    #[error("the image archive is refused: {0}")]
    Refused(String),
    /// The archive names content that is not in it.
    #[error("the image archive is incomplete: {0} is missing")]
    Missing(String),
    /// A manifest cannot be read.
    #[error("the image archive is damaged")]
    Manifest(#[from] ManifestError),
    /// A name in the archive is no image reference.
    #[error("the image archive has a name that cannot be used")]
    Reference(#[from] ReferenceError),
    /// A blob is wrong or cannot be stored.
    #[error("take the image archive in")]
    Blob(#[from] BlobError),
}

/// An archive that was read and checked, and is not stored yet. Dropped, it leaves nothing.
#[derive(Debug)]
pub struct StagedArchive {
    images: Vec<LoadedImage>,
    parts: Vec<Part>,
}

impl StagedArchive {
    /// Stores its blobs.
    ///
    /// # Errors
    /// [`ArchiveError::Blob`], also if a blob that was there when the archive was read is gone now.
    pub fn commit(self, blobs: &BlobStore) -> Result<Vec<LoadedImage>, ArchiveError> {
        for part in &self.parts {
            match &part.staged {
                Some(staged) => blobs.commit(staged)?,
                None if blobs.has(&part.digest, part.size) => {}
                None => return Err(BlobError::Missing(part.digest).into()),
            }
        }
        Ok(self.images)
    }
}

/// Reads and checks every image of an archive.
///
/// # Errors
/// [`ArchiveError`]; then nothing of it stays.
pub fn stage(reader: impl Read, blobs: &BlobStore) -> Result<StagedArchive, ArchiveError> {
    stage_parts(&mut TarParts::read(reader, blobs)?, blobs)
}

/// Reads and checks every image of a folder in the OCI image layout.
///
/// # Errors
/// [`ArchiveError`]; then nothing of it stays.
pub fn stage_folder(folder: &Path, blobs: &BlobStore) -> Result<StagedArchive, ArchiveError> {
    stage_parts(&mut FolderParts::open(folder, blobs), blobs)
}

fn stage_parts(parts: &mut dyn Parts, blobs: &BlobStore) -> Result<StagedArchive, ArchiveError> {
    // Docker 25 and later write both forms; the OCI one has the manifest that the image was
    // pulled with, and so the digest that registries know.
    let found = if parts.has("index.json") {
        oci::read(parts)?
    } else if parts.has("manifest.json") {
        docker::read(parts, blobs)?
    } else {
        return Err(ArchiveError::NoImage);
    };
    if found.images.is_empty() {
        return Err(ArchiveError::NoImage);
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
