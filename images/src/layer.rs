//! Layers: tar files that are the same bytes for the same content.
//!
//! In: files in memory, or a tree of this machine. Out: an uncompressed tar file. Times are fixed
//! and owners are numbers, so nothing of the machine that built it gets in; the order is the
//! caller's, and by name within a tree.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::builder::BuildError;

/// 2020-01-01: some programs take 1970 for "unknown".
const BUILT_S: u64 = 1_577_836_800;
const NAME_BYTES: usize = 100;

/// One layer in the making.
#[derive(Debug, Default)]
pub struct Layer {
    tar: Vec<u8>,
    owner: Owner,
}

/// Whose a file is: user and group by their numbers. Without a word it is root's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl Layer {
    /// A layer with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The finished tar file.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        // Two empty blocks end a tar file.
        let mut bytes = self.tar.clone();
        bytes.extend_from_slice(&[0; 1024]);
        bytes
    }

    /// Says whose is what is added from here on, but for trees, which know it themselves.
    pub fn owner(&mut self, owner: Owner) -> &mut Self {
        self.owner = owner;
        self
    }

    fn header(&self, kind: tar::EntryType, mode: u32, size: usize) -> tar::Header {
        let mut header = header(kind, mode, size as u64);
        header.set_uid(self.owner.uid.into());
        header.set_gid(self.owner.gid.into());
        header
    }

    /// Adds a folder.
    pub fn folder(&mut self, path: &str, mode: u32) -> &mut Self {
        let header = self.header(tar::EntryType::Directory, mode, 0);
        self.entry(header, format!("{path}/").as_bytes(), b"", b"")
    }

    /// Adds a file.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> &mut Self {
        let header = self.header(tar::EntryType::Regular, mode, content.len());
        self.entry(header, path.as_bytes(), b"", content)
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> &mut Self {
        let header = self.header(tar::EntryType::Symlink, 0o777, 0);
        self.entry(header, path.as_bytes(), target.as_bytes(), b"")
    }

    /// Adds another name for a file of this layer.
    pub fn hard_link(&mut self, path: &str, target: &str) -> &mut Self {
        let header = self.header(tar::EntryType::Link, 0o755, 0);
        self.entry(header, path.as_bytes(), target.as_bytes(), b"")
    }

    /// Hides what lower layers have under this path.
    pub fn whiteout(&mut self, path: &str) -> &mut Self {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let slash = if parent.is_empty() { "" } else { "/" };
        self.file(&format!("{parent}{slash}.wh.{name}"), 0, b"")
    }

    /// Hides everything that lower layers have in this folder.
    pub fn opaque(&mut self, path: &str) -> &mut Self {
        self.file(&format!("{path}/.wh..wh..opq"), 0, b"")
    }

    /// Adds an entry as it is, for tests of what no builder should write.
    pub fn raw(&mut self, header: &tar::Header, content: &[u8]) -> &mut Self {
        self.tar.extend_from_slice(header.as_bytes());
        self.content(content)
    }

    /// Adds extended attributes to the entry that follows.
    pub fn attributes(&mut self, attributes: &[(&str, &[u8])]) -> &mut Self {
        let mut records = Vec::new();
        for (name, value) in attributes {
            let rest = [b" SCHILY.xattr.", name.as_bytes(), b"=", value, b"\n"].concat();
            // The length of a record counts its own digits.
            let mut length = rest.len() + 1;
            while length.to_string().len() + rest.len() != length {
                length = length.to_string().len() + rest.len();
            }
            records.extend_from_slice(length.to_string().as_bytes());
            records.extend_from_slice(&rest);
        }
        let mut header = header(tar::EntryType::XHeader, 0o644, records.len() as u64);
        header.set_cksum();
        self.raw(&header, &records)
    }

    /// Adds everything below a folder of this machine, with modes, owners and hard links. Sockets
    /// are left out: they mean nothing in an image.
    ///
    /// # Errors
    /// [`BuildError::Tree`] if something cannot be read.
    pub fn tree(&mut self, root: &Path) -> Result<&mut Self, BuildError> {
        let mut seen = BTreeMap::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            let here: PathBuf = root.join(&folder).components().collect();
            let failed = |source| BuildError::Tree { path: here.clone(), source };
            let entries: io::Result<Vec<_>> = fs::read_dir(&here).map_err(failed)?.collect();
            let mut names: Vec<_> =
                entries.map_err(failed)?.into_iter().map(|entry| entry.file_name()).collect();
            names.sort();
            let mut below = Vec::new();
            for name in names {
                let path = folder.join(name);
                if self.take(root, &path, &mut seen)? {
                    below.push(path);
                }
            }
            folders.extend(below.into_iter().rev());
        }
        Ok(self)
    }

    /// Adds one path of a tree; answers whether it is a folder.
    fn take(
        &mut self,
        root: &Path,
        path: &Path,
        seen: &mut BTreeMap<(u64, u64), PathBuf>,
    ) -> Result<bool, BuildError> {
        let here = root.join(path);
        let failed = |source| BuildError::Tree { path: here.clone(), source };
        let found = fs::symlink_metadata(&here).map_err(failed)?;
        let kind = found.file_type();
        let name = path.as_os_str().as_bytes();
        let mut content = Vec::new();
        let mut target = Vec::new();
        let mut header = if kind.is_dir() {
            header(tar::EntryType::Directory, found.mode(), 0)
        } else if kind.is_symlink() {
            target = fs::read_link(&here).map_err(failed)?.into_os_string().into_encoded_bytes();
            header(tar::EntryType::Symlink, found.mode(), 0)
        } else if kind.is_file() {
            let first = seen.entry((found.dev(), found.ino())).or_insert_with(|| path.to_owned());
            if found.nlink() > 1 && first != path {
                target = first.as_os_str().as_bytes().to_vec();
                header(tar::EntryType::Link, found.mode(), 0)
            } else {
                let mut file = fs::File::open(&here).map_err(failed)?;
                file.read_to_end(&mut content).map_err(failed)?;
                header(tar::EntryType::Regular, found.mode(), content.len() as u64)
            }
        } else if kind.is_socket() {
            return Ok(false);
        } else {
            special(&kind, &found).map_err(failed)?
        };
        header.set_uid(found.uid().into());
        header.set_gid(found.gid().into());
        let slash: &[u8] = if kind.is_dir() { b"/" } else { b"" };
        self.entry(header, &[name, slash].concat(), &target, &content);
        Ok(kind.is_dir())
    }

    fn entry(
        &mut self,
        mut header: tar::Header,
        path: &[u8],
        target: &[u8],
        content: &[u8],
    ) -> &mut Self {
        // Longer names travel in an entry of their own, as GNU tar writes them.
        for (kind, name) in
            [(tar::EntryType::GNULongLink, target), (tar::EntryType::GNULongName, path)]
        {
            if name.len() > NAME_BYTES {
                let mut long = self::header(kind, 0o644, name.len() as u64 + 1);
                long.as_mut_bytes()[..13].copy_from_slice(b"././@LongLink");
                long.set_cksum();
                self.raw(&long, &[name, b"\0"].concat());
            }
        }
        let bytes = header.as_mut_bytes();
        let short = |name: &[u8]| name.len().min(NAME_BYTES);
        bytes[..short(path)].copy_from_slice(&path[..short(path)]);
        const LINK: usize = 157;
        bytes[LINK..LINK + short(target)].copy_from_slice(&target[..short(target)]);
        header.set_cksum();
        self.raw(&header, content)
    }

    fn content(&mut self, content: &[u8]) -> &mut Self {
        const BLOCK: usize = 512;
        self.tar.extend_from_slice(content);
        self.tar.resize(self.tar.len().next_multiple_of(BLOCK), 0);
        self
    }
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode & 0o7777);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(BUILT_S);
    header.set_size(size);
    header
}

fn special(kind: &fs::FileType, found: &fs::Metadata) -> io::Result<tar::Header> {
    let entry = if kind.is_char_device() {
        tar::EntryType::Char
    } else if kind.is_block_device() {
        tar::EntryType::Block
    } else {
        tar::EntryType::Fifo
    };
    let mut header = header(entry, found.mode(), 0);
    // Linux's encoding of device numbers (makedev(3)).
    let device = found.rdev();
    let major = (device >> 8) & 0xfff | (device >> 32) & !0xfff;
    let minor = device & 0xff | (device >> 12) & !0xff;
    let fits = |number: u64| u32::try_from(number).map_err(|_| io::ErrorKind::InvalidData);
    header.set_device_major(fits(major)?)?;
    header.set_device_minor(fits(minor)?)?;
    Ok(header)
}
