//! The image layout: a folder of blobs and the table of the images in it.
//!
//! In: archives, references, digests. Out: what `limpet image ls` shows, and manifests and blobs
//! as the pull half of the OCI Distribution Specification serves them. The folder is an OCI image
//! layout (`oci-layout`, `index.json`, `blobs/`), readable by skopeo and others; `index.json` is
//! replaced in one step, after the blobs that it names are on disk.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::archive::{self, ArchiveError, LoadedImage};
use crate::blob::{BlobError, BlobStore, write_file};
use crate::digest::Digest;
use crate::manifest::{
    ConfigHead, Descriptor, Document, Index, MAX_MANIFEST_BYTES, ManifestError, OCI_INDEX,
    REF_NAME, parse_json,
};
use crate::platform::Platform;
use crate::reference::{Reference, ReferenceError};

/// Most images of one layout: keeps `index.json` below the size of a manifest.
pub const MAX_IMAGES: usize = 8192;
const LAYOUT_FILE: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// A layout that cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// `index.json` is there and is none.
    #[error("{path} is damaged: restore it, or remove the folder and load the images again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: ManifestError,
    },
    /// The archive is not acceptable.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A file cannot be read or written.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A manifest of the store is none.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The text names no image.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// There is no such image.
    #[error("image {0} is not in the store")]
    Unknown(Digest),
    /// The table is full.
    #[error("the store holds {MAX_IMAGES} images already: remove some (`limpet image rm`)")]
    Full,
}

/// One image under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredImage {
    /// Its name as people write it (`limpet-demo:latest`); empty if it has none.
    pub reference: String,
    /// The digest of its index or manifest.
    pub digest: Digest,
    /// What it runs on.
    pub platforms: Vec<Platform>,
    /// Bytes of its blobs.
    pub size_bytes: u64,
}

/// A folder of images. Shared by reference between threads.
#[derive(Debug)]
pub struct ImageLayout {
    blobs: BlobStore,
    /// Held while blobs and table change together, so that a removal never takes a blob that a load counts on.
    changes: Mutex<()>,
    table: Mutex<Index>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The table is replaced whole after the file is: a panic elsewhere leaves no half change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ImageLayout {
    /// Opens the layout in `folder`; makes an empty one if there is none.
    ///
    /// # Errors
    /// [`LayoutError`] if the folder cannot be used.
    pub fn open(folder: &Path) -> Result<Self, LayoutError> {
        let blobs = BlobStore::open(folder)?;
        write_file(&folder.join("oci-layout"), LAYOUT_FILE)?;
        let path = folder.join("index.json");
        let table = match std::fs::read(&path) {
            Ok(bytes) => parse_json(&bytes, "index.json")
                .map_err(|source| LayoutError::Damaged { path, source })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Index {
                schema_version: 2,
                media_type: Some(OCI_INDEX.to_owned()),
                manifests: Vec::new(),
            },
            Err(source) => {
                let attempt = format!("read {}", path.display());
                return Err(BlobError::Io { attempt, source }.into());
            }
        };
        Ok(Self { blobs, changes: Mutex::new(()), table: Mutex::new(table) })
    }

    /// The blobs.
    pub fn blobs(&self) -> &BlobStore {
        &self.blobs
    }

    /// Takes in every image of an archive. A name that is taken moves to the new image.
    ///
    /// # Errors
    /// [`LayoutError`]; then nothing was changed.
    pub fn load(&self, reader: impl Read) -> Result<Vec<StoredImage>, LayoutError> {
        // Read first: an upload may take its time, and holds up nobody.
        let staged = archive::stage(reader, &self.blobs)?;
        let _changing = lock(&self.changes);
        self.record(staged.commit(&self.blobs)?)
    }

    /// Takes in every image of a folder in the OCI image layout.
    ///
    /// # Errors
    /// [`LayoutError`]; then nothing was changed.
    pub fn load_folder(&self, folder: &Path) -> Result<Vec<StoredImage>, LayoutError> {
        let staged = archive::stage_folder(folder, &self.blobs)?;
        let _changing = lock(&self.changes);
        self.record(staged.commit(&self.blobs)?)
    }

    fn record(&self, loaded: Vec<LoadedImage>) -> Result<Vec<StoredImage>, LayoutError> {
        let mut table = lock(&self.table).clone();
        for image in &loaded {
            let mut entry = Descriptor::new(&image.media_type, image.digest, image.manifest_size);
            if let Some(reference) = &image.reference {
                entry.annotations.insert(REF_NAME.to_owned(), reference.clone());
            }
            name(&mut table, entry);
        }
        self.replace_table(table)?;
        Ok(loaded
            .into_iter()
            .map(|image| StoredImage {
                reference: familiar(image.reference.as_deref()),
                digest: image.digest,
                platforms: image.platforms,
                size_bytes: image.size,
            })
            .collect())
    }

    /// Gives an image of the store a name. One that is taken moves.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn tag(&self, digest: &Digest, reference: &Reference) -> Result<(), LayoutError> {
        let _changing = lock(&self.changes);
        let mut table = lock(&self.table).clone();
        let known = table.manifests.iter().find(|entry| entry.digest == *digest);
        let mut entry = known.ok_or(LayoutError::Unknown(*digest))?.clone();
        entry.annotations.insert(REF_NAME.to_owned(), reference.to_string());
        name(&mut table, entry);
        self.replace_table(table)
    }

    /// Records an image whose manifest was stored by other means. Its name, if the entry has one
    /// ([`REF_NAME`]), moves to it. Nothing is written if this is so already.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn insert(&self, entry: Descriptor) -> Result<(), LayoutError> {
        let _changing = lock(&self.changes);
        let mut table = lock(&self.table).clone();
        name(&mut table, entry);
        self.replace_table(table)
    }

    /// Every entry of the table, as it is written there.
    #[must_use]
    pub fn entries(&self) -> Vec<Descriptor> {
        lock(&self.table).manifests.clone()
    }

    fn replace_table(&self, table: Index) -> Result<(), LayoutError> {
        if table.manifests.len() > MAX_IMAGES {
            return Err(LayoutError::Full);
        }
        let bytes = serde_json::to_vec(&table)
            .map_err(|source| ManifestError::Json { what: "index.json".to_owned(), source })?;
        write_file(&self.blobs.root().join("index.json"), &bytes)?;
        *lock(&self.table) = table;
        Ok(())
    }

    /// Every image, once for each of its names.
    ///
    /// # Errors
    /// [`LayoutError`] if a manifest of the store cannot be read.
    pub fn list(&self) -> Result<Vec<StoredImage>, LayoutError> {
        let table = lock(&self.table).clone();
        let mut images = Vec::new();
        for entry in &table.manifests {
            let mut inventory = Inventory::default();
            inventory.add(&self.blobs, &entry.digest)?;
            images.push(StoredImage {
                reference: familiar(entry.annotations.get(REF_NAME).map(String::as_str)),
                digest: entry.digest,
                platforms: inventory.platforms,
                size_bytes: inventory.size,
            });
        }
        images.sort_by(|a, b| (&a.reference, &a.digest).cmp(&(&b.reference, &b.digest)));
        Ok(images)
    }

    /// The image that a name stands for, written in any of the forms that [`Reference`] reads, or
    /// a digest alone. None if the store has no such image.
    #[must_use]
    pub fn resolve(&self, reference: &str) -> Option<Digest> {
        let table = lock(&self.table);
        if let Ok(digest) = reference.parse::<Digest>() {
            return table.manifests.iter().any(|it| it.digest == digest).then_some(digest);
        }
        let reference: Reference = reference.parse().ok()?;
        if let Some(digest) = reference.digest() {
            return table.manifests.iter().any(|it| it.digest == *digest).then_some(*digest);
        }
        let canonical = reference.to_string();
        let named = |entry: &&Descriptor| entry.annotations.get(REF_NAME) == Some(&canonical);
        table.manifests.iter().find(named).map(|entry| entry.digest)
    }

    /// The media type and bytes of an index or manifest, by name or by digest (also of a variant
    /// that an index names). None if the store has no such document.
    ///
    /// # Errors
    /// [`LayoutError`] if what is stored cannot be read.
    pub fn manifest(&self, reference: &str) -> Result<Option<(String, Vec<u8>)>, LayoutError> {
        let digest = match reference.parse::<Digest>() {
            Ok(digest) => digest,
            Err(_) => match self.resolve(reference) {
                Some(digest) => digest,
                None => return Ok(None),
            },
        };
        let bytes = match self.blobs.read(&digest, MAX_MANIFEST_BYTES) {
            Ok(bytes) => bytes,
            // A layer is no manifest, whatever its size.
            Err(BlobError::Missing(_) | BlobError::TooLarge { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        match Document::parse(&bytes, &format!("manifest {digest}")) {
            Ok(document) => Ok(Some((document.media_type().to_owned(), bytes))),
            Err(_) => Ok(None),
        }
    }

    /// The blob, opened at its start, and its size. None if the store has no such blob.
    ///
    /// # Errors
    /// [`LayoutError`] if it cannot be opened.
    pub fn blob(&self, digest: &Digest) -> Result<Option<(File, u64)>, LayoutError> {
        match self.blobs.open_blob(digest) {
            Ok(found) => Ok(Some(found)),
            Err(BlobError::Missing(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes an image under all its names, and every blob that no other image needs.
    ///
    /// # Errors
    /// [`LayoutError::Unknown`] if there is no such image.
    pub fn remove(&self, digest: &Digest) -> Result<(), LayoutError> {
        let _changing = lock(&self.changes);
        let mut table = lock(&self.table).clone();
        let before = table.manifests.len();
        table.manifests.retain(|entry| entry.digest != *digest);
        if table.manifests.len() == before {
            return Err(LayoutError::Unknown(*digest));
        }
        self.replace_table(table)?;
        self.remove_unreferenced()
    }

    /// Removes every blob that no image needs: what a power cut between a removal and its end left.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn gc(&self) -> Result<(), LayoutError> {
        let _changing = lock(&self.changes);
        self.remove_unreferenced()
    }

    fn remove_unreferenced(&self) -> Result<(), LayoutError> {
        let mut inventory = Inventory::default();
        for entry in &lock(&self.table).manifests {
            inventory.add(&self.blobs, &entry.digest)?;
        }
        for digest in self.blobs.list()? {
            if !inventory.digests.contains(&digest) {
                self.blobs.remove(&digest)?;
            }
        }
        Ok(())
    }
}

/// Puts the entry into the table; a name stands for one image only.
fn name(table: &mut Index, entry: Descriptor) {
    let reference = entry.annotations.get(REF_NAME).cloned();
    if let Some(reference) = &reference {
        for other in &mut table.manifests {
            if other.annotations.get(REF_NAME) == Some(reference) {
                other.annotations.remove(REF_NAME);
            }
        }
    }
    let digest = entry.digest;
    let has_name = |it: &Descriptor| it.annotations.contains_key(REF_NAME);
    if reference.is_some() || !table.manifests.iter().any(|it| it.digest == digest) {
        table.manifests.push(entry);
    }
    // An image needs no nameless entry beside a named one, nor two.
    let named: BTreeSet<Digest> =
        table.manifests.iter().filter(|it| has_name(it)).map(|it| it.digest).collect();
    let mut seen = BTreeSet::new();
    table
        .manifests
        .retain(|it| has_name(it) || (!named.contains(&it.digest) && seen.insert(it.digest)));
    table.manifests.sort_by(|a, b| {
        (a.annotations.get(REF_NAME), a.digest).cmp(&(b.annotations.get(REF_NAME), b.digest))
    });
}

fn familiar(reference: Option<&str>) -> String {
    let parsed = reference.and_then(|text| text.parse::<Reference>().ok());
    parsed.map(|reference| reference.familiar()).unwrap_or_default()
}

/// The blobs of an image, as far as they are there.
#[derive(Default)]
struct Inventory {
    digests: BTreeSet<Digest>,
    platforms: Vec<Platform>,
    size: u64,
}

impl Inventory {
    fn add(&mut self, blobs: &BlobStore, digest: &Digest) -> Result<(), LayoutError> {
        let Some(size) = blobs.size(digest) else { return Ok(()) };
        if !self.digests.insert(*digest) {
            return Ok(());
        }
        self.size += size;
        let bytes = blobs.read(digest, MAX_MANIFEST_BYTES)?;
        match Document::parse(&bytes, &format!("manifest {digest}"))? {
            // An index cannot contain itself, so this ends: it would have to hold its own digest.
            Document::Index(index) => {
                for variant in &index.manifests {
                    self.add(blobs, &variant.digest)?;
                }
            }
            Document::Manifest(manifest) => {
                let mut whole = true;
                for blob in manifest.layers.iter().chain([&manifest.config]) {
                    whole &= blobs.has(&blob.digest, blob.size);
                    if self.digests.insert(blob.digest) {
                        self.size += blobs.size(&blob.digest).unwrap_or(0);
                    }
                }
                let config = blobs.read(&manifest.config.digest, MAX_MANIFEST_BYTES);
                let head = config
                    .ok()
                    .and_then(|bytes| parse_json::<ConfigHead>(&bytes, "image configuration").ok());
                let platform = head.filter(|_| whole).map(|head| head.platform());
                self.platforms.extend(platform.filter(|platform| platform.os != "unknown"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
