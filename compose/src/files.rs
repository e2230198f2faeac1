//! How files are read: the one thing that the reader asks of the world. A path comes in, text goes
//! out. [`RealFiles`] is the file system, [`MemoryFiles`] a map.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::limits::MAX_FILE_BYTES;

/// A way to read files.
pub trait Files {
    /// The text of a file of at most [`MAX_FILE_BYTES`].
    ///
    /// # Errors
    /// `NotFound` when it is not there; any other error when it cannot be read or is too large.
    fn read(&self, path: &Path) -> io::Result<String>;

    /// The bytes of a file of at most [`MAX_FILE_BYTES`], which need not be text.
    ///
    /// # Errors
    /// As [`Files::read`].
    fn read_bytes(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.read(path).map(String::into_bytes)
    }

    /// Where relative paths begin.
    ///
    /// # Errors
    /// When there is no such folder any more.
    fn current_directory(&self) -> io::Result<PathBuf>;
}

/// The file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealFiles;

impl Files for RealFiles {
    fn read(&self, path: &Path) -> io::Result<String> {
        String::from_utf8(self.read_bytes(path)?)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8 text"))
    }

    fn read_bytes(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = std::fs::File::open(path)?;
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            let message = format!("larger than {MAX_FILE_BYTES} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        Ok(bytes)
    }

    fn current_directory(&self) -> io::Result<PathBuf> {
        std::env::current_dir()
    }
}

/// Files in memory, by absolute path; the current directory is `/project`.
#[derive(Debug, Clone, Default)]
pub struct MemoryFiles(BTreeMap<PathBuf, String>);

impl MemoryFiles {
    /// No files.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file; a relative path begins at `/project`.
    #[must_use]
    pub fn with(mut self, path: &str, text: &str) -> Self {
        self.0.insert(Path::new("/project").join(path), text.to_owned());
        self
    }
}

impl Files for MemoryFiles {
    fn read(&self, path: &Path) -> io::Result<String> {
        self.0.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn current_directory(&self) -> io::Result<PathBuf> {
        Ok(PathBuf::from("/project"))
    }
}
