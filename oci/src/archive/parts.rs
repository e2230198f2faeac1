//! The files of an archive, by their path: staged from a tar stream, or looked up in a folder.
//!
//! In: a tar stream or a folder. Out: [`Part`]s by path. A tar stream is read once, front to back,
//! and may name its files in any order, so every file is staged while it passes by.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use crate::archive::ArchiveError;
use crate::blob::{BlobStore, MAX_BLOB_BYTES, Staged, hash};
use crate::compression::{HeaderMeter, plain};
use crate::digest::Digest;

/// Most entries of an archive: 128 layers with three files each, a hundred times over.
const MAX_ENTRIES: usize = 40_000;
/// Most bytes of an archive, uncompressed.
const MAX_ARCHIVE_BYTES: u64 = 64 * 1024 * 1024 * 1024;
/// Most links that are followed for one path; archives have at most one.
const MAX_LINKS: usize = 4;

/// A file of an archive.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// The digest of its bytes.
    pub(super) digest: Digest,
    /// How many they are.
    pub(super) size: u64,
    /// The bytes themselves; none if the store has that blob already.
    pub(super) staged: Option<Rc<Staged>>,
}

impl Part {
    pub(super) fn of(staged: Staged) -> Self {
        let (digest, size) = (staged.digest, staged.size);
        Self { digest, size, staged: Some(Rc::new(staged)) }
    }
}

/// The files of an archive.
pub(super) trait Parts {
    /// Whether there is such a file.
    fn has(&self, path: &str) -> bool;
    /// The file, if there is one.
    fn get(&mut self, path: &str) -> Result<Option<Part>, ArchiveError>;
    /// The file's bytes, for small ones.
    fn read(&mut self, path: &str, limit: u64) -> Result<Vec<u8>, ArchiveError>;
}

enum Node {
    File(Part),
    Link(String),
}

/// The files of a tar stream.
pub(super) struct TarParts<'a> {
    blobs: &'a BlobStore,
    nodes: BTreeMap<String, Node>,
}

impl<'a> TarParts<'a> {
    /// Stages everything that the stream holds.
    pub(super) fn read(reader: impl Read, blobs: &'a BlobStore) -> Result<Self, ArchiveError> {
        let start = |source| ArchiveError::Read { place: String::new(), source };
        let meter = HeaderMeter::default();
        let mut archive = tar::Archive::new(meter.watch(plain(reader).map_err(start)?));
        let mut parts = Self { blobs, nodes: BTreeMap::new() };
        let mut entries = archive.entries().map_err(start)?;
        let mut place = String::new();
        let mut bytes_left = MAX_ARCHIVE_BYTES;
        while let Some(entry) = meter.headers(|| entries.next()) {
            let mut entry = entry.map_err(|source| ArchiveError::Read { place, source })?;
            if parts.nodes.len() >= MAX_ENTRIES {
                return Err(ArchiveError::Refused(format!("it has more than {MAX_ENTRIES} files")));
            }
            let path = entry.path().map_err(start)?.into_owned();
            place = format!(" at {}", path.display());
            let size = parts.take(&path, &mut entry)?;
            bytes_left = bytes_left.checked_sub(size).ok_or_else(|| {
                ArchiveError::Refused(format!("it has more than {MAX_ARCHIVE_BYTES} bytes"))
            })?;
        }
        Ok(parts)
    }

    fn take(
        &mut self,
        path: &Path,
        entry: &mut tar::Entry<'_, impl Read>,
    ) -> Result<u64, ArchiveError> {
        let refused = |what: &str| ArchiveError::Refused(format!("{}: {what}", path.display()));
        let kind = entry.header().entry_type();
        if kind.is_dir() || kind.is_pax_global_extensions() {
            return Ok(0);
        }
        let name = inside(path).ok_or_else(|| refused("the path leads out of the archive"))?;
        if kind.is_file() || kind.is_contiguous() {
            let part = self.stage(&name, entry)?;
            let size = part.size;
            self.nodes.insert(name, Node::File(part));
            return Ok(size);
        }
        let target = entry.link_name().ok().flatten();
        let target = target.ok_or_else(|| refused("no image archive holds such an entry"))?;
        // A hard link names its target from the top, a symbolic one from where it stands.
        let target = if kind.is_hard_link() {
            inside(&target)
        } else if kind.is_symlink() {
            inside(&path.parent().unwrap_or(Path::new("")).join(&*target))
        } else {
            return Err(refused("no image archive holds such an entry"));
        };
        let target = target.ok_or_else(|| refused("the link leads out of the archive"))?;
        self.nodes.insert(name, Node::Link(target));
        Ok(0)
    }

    fn stage(&self, name: &str, entry: &mut impl Read) -> Result<Part, ArchiveError> {
        let announced = name.strip_prefix("blobs/sha256/").map(Digest::from_hex);
        let announced = announced.and_then(Result::ok);
        if let Some(digest) = announced
            && self.blobs.size(&digest).is_some()
        {
            let (actual, size) = hash(entry, name)?;
            check(digest, actual)?;
            return Ok(Part { digest, size, staged: None });
        }
        let staged = self.blobs.stage(entry, name, MAX_BLOB_BYTES)?;
        if let Some(digest) = announced {
            check(digest, staged.digest)?;
        }
        Ok(Part::of(staged))
    }

    fn find(&self, path: &str) -> Option<&Part> {
        let mut path = path;
        for _ in 0..=MAX_LINKS {
            match self.nodes.get(path)? {
                Node::File(part) => return Some(part),
                Node::Link(target) => path = target,
            }
        }
        None
    }
}

impl Parts for TarParts<'_> {
    fn has(&self, path: &str) -> bool {
        self.find(path).is_some()
    }

    fn get(&mut self, path: &str) -> Result<Option<Part>, ArchiveError> {
        let Some(path) = inside(Path::new(path)) else {
            return Err(ArchiveError::Refused(format!("{path} leads out of the archive")));
        };
        Ok(self.find(&path).cloned())
    }

    fn read(&mut self, path: &str, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        let part = self.get(path)?.ok_or_else(|| ArchiveError::Missing(path.to_owned()))?;
        read_part(&part, self.blobs, path, limit)
    }
}

/// The files of a folder.
pub(super) struct FolderParts<'a> {
    blobs: &'a BlobStore,
    folder: PathBuf,
    staged: BTreeMap<String, Part>,
}

impl<'a> FolderParts<'a> {
    /// Reads nothing yet.
    pub(super) fn open(folder: &Path, blobs: &'a BlobStore) -> Self {
        Self { blobs, folder: folder.to_owned(), staged: BTreeMap::new() }
    }

    fn file(&self, path: &str) -> Option<PathBuf> {
        let path = self.folder.join(inside(Path::new(path))?);
        // A link could lead anywhere, and a layout has none.
        fs::symlink_metadata(&path).is_ok_and(|found| found.is_file()).then_some(path)
    }
}

impl Parts for FolderParts<'_> {
    fn has(&self, path: &str) -> bool {
        self.file(path).is_some()
    }

    fn get(&mut self, path: &str) -> Result<Option<Part>, ArchiveError> {
        if let Some(part) = self.staged.get(path) {
            return Ok(Some(part.clone()));
        }
        let Some(file) = self.file(path) else { return Ok(None) };
        let place = format!(" at {path}");
        let file = File::open(file).map_err(|source| ArchiveError::Read { place, source })?;
        let part = Part::of(self.blobs.stage(file, path, MAX_BLOB_BYTES)?);
        self.staged.insert(path.to_owned(), part.clone());
        Ok(Some(part))
    }

    fn read(&mut self, path: &str, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        let part = self.get(path)?.ok_or_else(|| ArchiveError::Missing(path.to_owned()))?;
        read_part(&part, self.blobs, path, limit)
    }
}

fn read_part(
    part: &Part,
    blobs: &BlobStore,
    path: &str,
    limit: u64,
) -> Result<Vec<u8>, ArchiveError> {
    if part.size > limit {
        return Err(ArchiveError::Refused(format!("{path} is larger than {limit} bytes")));
    }
    match &part.staged {
        Some(staged) => Ok(staged.read()?),
        None => Ok(blobs.read(&part.digest, limit)?),
    }
}

fn check(expected: Digest, actual: Digest) -> Result<(), ArchiveError> {
    if expected == actual {
        return Ok(());
    }
    Err(crate::blob::BlobError::WrongDigest { expected, actual }.into())
}

/// The path without `.` and `..`, if it stays inside and is text.
fn inside(path: &Path) -> Option<String> {
    let mut names: Vec<&str> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_str()?),
            Component::CurDir => {}
            Component::ParentDir => drop(names.pop()?),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    (!names.is_empty()).then(|| names.join("/"))
}
