//! Layers: unpacked folders, whole or not there.
//!
//! In: a layer's bytes and its diff id. Out: `layers/<name>/diff`, ready for overlayfs. A layer is
//! unpacked in `layers/unpacking/`, synced, and renamed together with the record that says which
//! it is; what a power cut left is thrown away when the store is opened. A layer is named by its
//! diff id: images share it whatever lies below it. The names are short since overlayfs takes all
//! of them in one page of mount options.

use std::fs::{self, DirBuilder, File};
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use limpet_oci::Digest;
use limpet_oci::blob::{sync_folder, write_file};

use super::ImageError;
use super::error::io_error;
use super::unpack::unpack;

/// Hex digits of a layer's folder: 96 bits, and the record has all of them.
const NAME_DIGITS: usize = 24;
const RECORD: &str = "complete";
const UNPACKING: &str = "unpacking";

/// The unpacked layers of a node.
#[derive(Debug)]
pub(super) struct Layers {
    root: PathBuf,
    next: AtomicU64,
}

impl Layers {
    /// Opens the folder and throws away what is not whole.
    pub(super) fn open(root: &Path) -> Result<Self, ImageError> {
        let layers = Self { root: root.to_owned(), next: AtomicU64::new(0) };
        let unpacking = root.join(UNPACKING);
        if !unpacking.is_dir() {
            // Only root may pass: layers hold setuid programs that are not the node's.
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&unpacking);
            made.map_err(io_error("make folder", &unpacking))?;
        }
        for entry in fs::read_dir(root).map_err(io_error("list", root))? {
            let path = entry.map_err(io_error("list", root))?.path();
            if path != unpacking && !layers.is_whole(&path) {
                tracing::warn!(layer = %path.display(), "a layer is not whole: it goes");
                remove(&path)?;
            }
        }
        for entry in fs::read_dir(&unpacking).map_err(io_error("list", &unpacking))? {
            remove(&entry.map_err(io_error("list", &unpacking))?.path())?;
        }
        Ok(layers)
    }

    fn folder(&self, diff_id: &Digest) -> PathBuf {
        self.root.join(&diff_id.hex()[..NAME_DIGITS])
    }

    fn is_whole(&self, path: &Path) -> bool {
        let record = fs::read_to_string(path.join(RECORD)).ok();
        let diff_id = record.and_then(|text| text.parse::<Digest>().ok());
        diff_id.is_some_and(|diff_id| self.folder(&diff_id) == path)
    }

    /// The folder for overlayfs, if the layer is there.
    pub(super) fn get(&self, diff_id: &Digest) -> Option<PathBuf> {
        let folder = self.folder(diff_id);
        let record = fs::read_to_string(folder.join(RECORD)).ok()?;
        (record == diff_id.to_string()).then(|| folder.join("diff"))
    }

    /// Unpacks a layer. Blocking.
    pub(super) fn put(&self, diff_id: &Digest, bytes: impl Read) -> Result<(), ImageError> {
        if self.get(diff_id).is_some() {
            return Ok(());
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let temporary = self.root.join(UNPACKING).join(number.to_string());
        let result = self.put_by(diff_id, bytes, &temporary);
        if result.is_err() && temporary.exists() {
            remove(&temporary)?;
        }
        result
    }

    fn put_by(
        &self,
        diff_id: &Digest,
        bytes: impl Read,
        temporary: &Path,
    ) -> Result<(), ImageError> {
        let diff = temporary.join("diff");
        fs::create_dir_all(&diff).map_err(io_error("make folder", &diff))?;
        unpack(bytes, diff_id, &diff)
            .map_err(|source| ImageError::Unpack { digest: *diff_id, source })?;
        write_file(&temporary.join(RECORD), diff_id.to_string().as_bytes())?;
        let folder = File::open(temporary).map_err(io_error("open", temporary))?;
        // One call for thousands of files; only then may the layer have its name.
        rustix::fs::syncfs(&folder).map_err(|error| io_error("sync", temporary)(error.into()))?;
        let target = self.folder(diff_id);
        fs::rename(temporary, &target).map_err(io_error("rename to", &target))?;
        Ok(sync_folder(&self.root)?)
    }

    /// Removes every layer that `keep` does not want.
    pub(super) fn retain(&self, keep: impl Fn(&Digest) -> bool) -> Result<(), ImageError> {
        for entry in fs::read_dir(&self.root).map_err(io_error("list", &self.root))? {
            let path = entry.map_err(io_error("list", &self.root))?.path();
            let Ok(record) = fs::read_to_string(path.join(RECORD)) else { continue };
            if record.parse().is_ok_and(|diff_id| !keep(&diff_id)) {
                self.discard(&path)?;
            }
        }
        Ok(())
    }

    /// Takes the name away first: a removal that is cut off leaves no half layer.
    fn discard(&self, path: &Path) -> Result<(), ImageError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let aside = self.root.join(UNPACKING).join(format!("old-{number}"));
        fs::rename(path, &aside).map_err(io_error("put aside", path))?;
        remove(&aside)
    }
}

fn remove(path: &Path) -> Result<(), ImageError> {
    let is_folder = fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    let removed = if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(io_error("remove", path))
}
