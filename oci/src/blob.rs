//! Blobs: content-addressed files that a power cut cannot spoil.
//!
//! In: bytes from a reader, with what they should be where that is known. Out: files
//! `blobs/sha256/<hex>` that are whole and verified whenever they are there: content goes to
//! `incoming/` first, is hashed on the way, synced, renamed, and the folder is synced. What an
//! interrupted write left in `incoming/` goes away when the store is opened. A blob that is there
//! is not written again.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::digest::{Digest, Hashing};

/// Largest blob: the largest layers in use (machine learning) have about 10 GB.
pub const MAX_BLOB_BYTES: u64 = 16 * 1024 * 1024 * 1024;
/// Bytes moved at a time.
const COPY_BYTES: usize = 64 * 1024;

/// A blob that cannot be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The file system said no.
    #[error("{attempt}")]
    Io {
        /// What was being tried.
        attempt: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The source of the bytes said no.
    #[error("read {what}")]
    Source {
        /// What was being read.
        what: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// More bytes than allowed.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// What.
        what: String,
        /// How much is allowed.
        limit: u64,
    },
    /// The bytes are not what was announced.
    #[error("blob {expected} has the wrong digest: its bytes have {actual}")]
    WrongDigest {
        /// What was announced.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// There are more or fewer bytes than announced.
    #[error("blob {digest} has {actual} bytes where {expected} were announced")]
    WrongSize {
        /// Which.
        digest: Digest,
        /// What was announced.
        expected: u64,
        /// What came.
        actual: u64,
    },
    /// The blob is not in the store.
    #[error("blob {0} is not there")]
    Missing(Digest),
}

/// Puts the attempt beside its cause.
pub(crate) fn io_error(attempt: impl Into<String>) -> impl FnOnce(io::Error) -> BlobError {
    let attempt = attempt.into();
    move |source| BlobError::Io { attempt, source }
}

/// A folder of blobs.
#[derive(Debug)]
pub struct BlobStore {
    root: PathBuf,
    next: AtomicU64,
}

/// Bytes that were read and hashed but are no blob yet. Dropped, they are gone.
#[derive(Debug)]
pub struct Staged {
    /// The digest of what was read.
    pub digest: Digest,
    /// How much was read.
    pub size: u64,
    path: PathBuf,
}

impl Staged {
    /// All bytes; the caller has looked at the size.
    pub(crate) fn read(&self) -> Result<Vec<u8>, BlobError> {
        fs::read(&self.path).map_err(io_error(format!("read {}", self.path.display())))
    }

    /// The bytes, to be read from their begin.
    pub(crate) fn open(&self) -> Result<File, BlobError> {
        File::open(&self.path).map_err(io_error(format!("open {}", self.path.display())))
    }

    /// The first bytes.
    pub(crate) fn start(&self, count: usize) -> Result<Vec<u8>, BlobError> {
        let attempt = || format!("read {}", self.path.display());
        first_bytes(File::open(&self.path).map_err(io_error(attempt()))?, count, attempt())
    }
}

fn first_bytes(file: File, count: usize, attempt: String) -> Result<Vec<u8>, BlobError> {
    let mut bytes = Vec::with_capacity(count);
    file.take(count as u64).read_to_end(&mut bytes).map_err(io_error(attempt))?;
    Ok(bytes)
}

impl Drop for Staged {
    fn drop(&mut self) {
        // After a commit there is nothing left to remove; what cannot be removed goes at the next open.
        drop(fs::remove_file(&self.path));
    }
}

impl BlobStore {
    /// Opens the store in `root`, makes its folders, and removes what interrupted writes left.
    ///
    /// # Errors
    /// [`BlobError::Io`].
    pub fn open(root: &Path) -> Result<Self, BlobError> {
        let store = Self { root: root.to_owned(), next: AtomicU64::new(0) };
        for folder in [store.blobs(), store.incoming()] {
            fs::create_dir_all(&folder)
                .map_err(io_error(format!("make folder {}", folder.display())))?;
        }
        let incoming = store.incoming();
        let attempt = || format!("clear {}", incoming.display());
        for entry in fs::read_dir(&incoming).map_err(io_error(attempt()))? {
            let path = entry.map_err(io_error(attempt()))?.path();
            fs::remove_file(path).map_err(io_error(attempt()))?;
        }
        Ok(store)
    }

    /// The folder that holds the store.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    /// Where the blob is, or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    /// The size of the blob, if it is there.
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        fs::metadata(self.path(digest)).ok().filter(fs::Metadata::is_file).map(|file| file.len())
    }

    /// Whether the blob is there with this size.
    pub fn has(&self, digest: &Digest, size: u64) -> bool {
        self.size(digest) == Some(size)
    }

    /// Opens the blob for reading.
    ///
    /// # Errors
    /// [`BlobError::Missing`] or [`BlobError::Io`].
    pub fn open_blob(&self, digest: &Digest) -> Result<(File, u64), BlobError> {
        let file = File::open(self.path(digest)).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => BlobError::Missing(*digest),
            _ => BlobError::Io { attempt: format!("open blob {digest}"), source },
        })?;
        let size = file.metadata().map_err(io_error(format!("look at blob {digest}")))?.len();
        Ok((file, size))
    }

    /// Reads a small blob whole.
    ///
    /// # Errors
    /// [`BlobError`], also if it is larger than `limit` or is not what its name says.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, BlobError> {
        let (file, size) = self.open_blob(digest)?;
        if size > limit {
            return Err(BlobError::TooLarge { what: format!("blob {digest}"), limit });
        }
        let mut bytes = Vec::new();
        file.take(limit)
            .read_to_end(&mut bytes)
            .map_err(io_error(format!("read blob {digest}")))?;
        let actual = Digest::of(&bytes);
        if actual != *digest {
            return Err(BlobError::WrongDigest { expected: *digest, actual });
        }
        Ok(bytes)
    }

    /// The first bytes of the blob, unverified: enough to tell its form.
    ///
    /// # Errors
    /// [`BlobError`].
    pub fn start(&self, digest: &Digest, count: usize) -> Result<Vec<u8>, BlobError> {
        first_bytes(self.open_blob(digest)?.0, count, format!("read blob {digest}"))
    }

    /// Reads the whole blob and compares its digest.
    ///
    /// # Errors
    /// [`BlobError`] if it is missing, unreadable or wrong.
    pub fn verify(&self, digest: &Digest) -> Result<(), BlobError> {
        let (file, _) = self.open_blob(digest)?;
        let (actual, _) = hash(file, &format!("blob {digest}"))?;
        if actual != *digest {
            return Err(BlobError::WrongDigest { expected: *digest, actual });
        }
        Ok(())
    }

    /// Reads everything into a temporary file. `what` names the bytes in an error.
    ///
    /// # Errors
    /// [`BlobError`] if there are more than `limit` bytes, or reading or writing fails.
    pub fn stage(&self, reader: impl Read, what: &str, limit: u64) -> Result<Staged, BlobError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.incoming().join(number.to_string());
        let attempt = || format!("write {}", path.display());
        let file = File::create_new(&path).map_err(io_error(attempt()))?;
        let mut staged = Staged { digest: Digest::of(b""), size: 0, path: path.clone() };
        let mut writer = Hashing::new(file);
        copy(reader, &mut writer, (what, limit), &attempt())?;
        let (_, digest, size) = writer.finish();
        (staged.digest, staged.size) = (digest, size);
        Ok(staged)
    }

    /// Makes staged bytes a blob, durably. Nothing is written if the blob is there.
    ///
    /// # Errors
    /// [`BlobError::Io`].
    pub fn commit(&self, staged: &Staged) -> Result<(), BlobError> {
        if self.has(&staged.digest, staged.size) {
            return Ok(());
        }
        self.publish(&staged.path, &staged.digest)
    }

    /// Takes in a file of the same file system whose bytes should be this blob.
    ///
    /// # Errors
    /// [`BlobError`] if they are not; the file is left where it is.
    pub fn adopt(&self, path: &Path, digest: &Digest, size: u64) -> Result<(), BlobError> {
        let what = format!("blob {digest}");
        let file = File::open(path).map_err(io_error(format!("open {}", path.display())))?;
        let (actual_digest, actual) = hash(file, &what)?;
        if actual != size {
            return Err(BlobError::WrongSize { digest: *digest, expected: size, actual });
        }
        if actual_digest != *digest {
            return Err(BlobError::WrongDigest { expected: *digest, actual: actual_digest });
        }
        self.publish(path, digest)
    }

    fn publish(&self, path: &Path, digest: &Digest) -> Result<(), BlobError> {
        let attempt = || format!("store blob {digest}");
        let file = File::open(path).map_err(io_error(attempt()))?;
        file.sync_all().map_err(io_error(attempt()))?;
        fs::rename(path, self.path(digest)).map_err(io_error(attempt()))?;
        sync_folder(&self.blobs())
    }

    /// Stores what the reader gives, whatever it is.
    ///
    /// # Errors
    /// [`BlobError`].
    pub fn put(&self, reader: impl Read, what: &str) -> Result<(Digest, u64), BlobError> {
        let staged = self.stage(reader, what, MAX_BLOB_BYTES)?;
        self.commit(&staged)?;
        Ok((staged.digest, staged.size))
    }

    /// Every blob that is there.
    ///
    /// # Errors
    /// [`BlobError::Io`].
    pub fn list(&self) -> Result<Vec<Digest>, BlobError> {
        let attempt = || format!("list {}", self.blobs().display());
        let mut digests = Vec::new();
        for entry in fs::read_dir(self.blobs()).map_err(io_error(attempt()))? {
            let name = entry.map_err(io_error(attempt()))?.file_name();
            digests.extend(name.to_str().and_then(|name| Digest::from_hex(name).ok()));
        }
        Ok(digests)
    }

    /// Removes a blob; one that is not there is no error.
    ///
    /// # Errors
    /// [`BlobError::Io`].
    pub fn remove(&self, digest: &Digest) -> Result<(), BlobError> {
        match fs::remove_file(self.path(digest)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(BlobError::Io { attempt: format!("remove blob {digest}"), source })
            }
            _ => Ok(()),
        }
    }
}

/// The digest and length of everything the reader gives.
pub(crate) fn hash(reader: impl Read, what: &str) -> Result<(Digest, u64), BlobError> {
    let mut writer = Hashing::new(io::sink());
    copy(reader, &mut writer, (what, MAX_BLOB_BYTES), "hash")?;
    let (_, digest, size) = writer.finish();
    Ok((digest, size))
}

fn copy(
    mut reader: impl Read,
    mut writer: impl Write,
    (what, limit): (&str, u64),
    attempt: &str,
) -> Result<(), BlobError> {
    let mut buffer = vec![0; COPY_BYTES];
    let mut total = 0;
    loop {
        let read = match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(BlobError::Source { what: what.to_owned(), source }),
        };
        total += read as u64;
        if total > limit {
            return Err(BlobError::TooLarge { what: what.to_owned(), limit });
        }
        writer.write_all(&buffer[..read]).map_err(io_error(attempt))?;
    }
}

/// Makes renames and new names in the folder durable.
///
/// # Errors
/// [`BlobError::Io`].
pub fn sync_folder(folder: &Path) -> Result<(), BlobError> {
    let attempt = || format!("sync folder {}", folder.display());
    let file = File::open(folder).map_err(io_error(attempt()))?;
    file.sync_all().map_err(io_error(attempt()))
}

/// Replaces the file's content in one step that a power cut cannot split. A file that has this
/// content already is not written.
///
/// # Errors
/// [`BlobError::Io`].
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), BlobError> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let attempt = || format!("write {}", path.display());
    let mut temporary = path.to_owned().into_os_string();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let mut file = File::create(&temporary).map_err(io_error(attempt()))?;
    file.write_all(bytes).map_err(io_error(attempt()))?;
    file.sync_all().map_err(io_error(attempt()))?;
    fs::rename(&temporary, path).map_err(io_error(attempt()))?;
    path.parent().map_or(Ok(()), sync_folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_there_once_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        let (digest, size) = store.put(&b"content"[..], "test").unwrap();
        assert_eq!((digest, size), (Digest::of(b"content"), 7));
        assert!(store.has(&digest, 7) && !store.has(&digest, 6));
        let before = fs::metadata(store.path(&digest)).unwrap().modified().unwrap();
        store.put(&b"content"[..], "test").unwrap();
        assert_eq!(fs::metadata(store.path(&digest)).unwrap().modified().unwrap(), before);
        store.verify(&digest).unwrap();
        fs::write(store.path(&digest), b"c0ntent").unwrap();
        assert!(matches!(store.verify(&digest), Err(BlobError::WrongDigest { .. })));
        assert_eq!(fs::read_dir(store.incoming()).unwrap().count(), 0);
    }

    #[test]
    fn too_much_is_refused_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        let staged = store.stage(io::repeat(0), "endless", 1000);
        assert!(matches!(staged, Err(BlobError::TooLarge { limit: 1000, .. })));
        assert_eq!(fs::read_dir(store.incoming()).unwrap().count(), 0);
        assert!(store.list().unwrap().is_empty());
    }

    #[test]
    fn an_interrupted_write_is_cleared_at_open() {
        let dir = tempfile::tempdir().unwrap();
        drop(BlobStore::open(dir.path()).unwrap());
        fs::write(dir.path().join("incoming/7"), b"half").unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        assert_eq!(fs::read_dir(store.incoming()).unwrap().count(), 0);
    }

    #[test]
    fn only_the_right_file_is_adopted() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        let path = dir.path().join("partial");
        fs::write(&path, b"content").unwrap();
        let digest = Digest::of(b"content");
        let wrong = store.adopt(&path, &Digest::of(b"other"), 7);
        assert!(matches!(wrong, Err(BlobError::WrongDigest { .. })));
        assert!(matches!(store.adopt(&path, &digest, 8), Err(BlobError::WrongSize { .. })));
        store.adopt(&path, &digest, 7).unwrap();
        assert!(store.has(&digest, 7) && !path.exists());
    }
}
