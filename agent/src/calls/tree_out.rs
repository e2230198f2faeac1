//! A file or folder of a container as a tar stream.
//!
//! In: the container's root and a path. Out: the entries, the topmost named as the path's last name.
//! Links are sent as links and never followed; sockets are left out, as tar has no word for them.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{Dir, FileType, OFlags, Stat};
use tar::{Builder, EntryType, Header};

use super::root::{CopyError, Root, failed, open_in, stat_in};

/// Deepest nesting of folders that is followed: each holds a descriptor.
const MAX_DEPTH: usize = 128;

/// Writes the tree at `path` to `out`.
pub(super) fn send(root: &Root, path: &str, out: &mut impl Write) -> Result<(), CopyError> {
    let (folder, name) = root.parent(path)?;
    let mut tree = Tree { tar: Builder::new(out) };
    if name.is_empty() {
        tree.children(&folder, "", MAX_DEPTH)?;
    } else {
        let stat = stat_in(&folder, &name).map_err(failed("read", path))?;
        let is_folder = FileType::from_raw_mode(stat.st_mode).is_dir();
        if path.ends_with('/') && !is_folder {
            return Err(failed("read", path)(rustix::io::Errno::NOTDIR));
        }
        tree.entry((&folder, &name), &stat, &name, MAX_DEPTH)?;
    }
    tree.tar.finish().map_err(|error| CopyError::Stream { error })
}

struct Tree<W: Write> {
    tar: Builder<W>,
}

impl<W: Write> Tree<W> {
    fn children(&mut self, folder: &OwnedFd, path: &str, depth: usize) -> Result<(), CopyError> {
        let read = failed("read the folder", path);
        let listing = open_in(folder, ".", OFlags::RDONLY | OFlags::DIRECTORY);
        for entry in Dir::new(listing.map_err(&read)?).map_err(&read)? {
            let entry = entry.map_err(&read)?;
            let Some(name) = own_name(entry.file_name()) else { continue };
            let below = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            match stat_in(folder, name) {
                Ok(stat) => self.entry((folder, name), &stat, &below, depth)?,
                // It went meanwhile.
                Err(rustix::io::Errno::NOENT) => {}
                Err(errno) => return Err(failed("read", &below)(errno)),
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        (folder, name): (&OwnedFd, &str),
        stat: &Stat,
        path: &str,
        depth: usize,
    ) -> Result<(), CopyError> {
        let stream = |error| CopyError::Stream { error };
        let mut header = header_of(stat);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                if depth == 0 {
                    let error = io::Error::other(format!("more than {MAX_DEPTH} folders deep"));
                    return Err(CopyError::File { attempt: "read", path: path.to_owned(), error });
                }
                header.set_entry_type(EntryType::Directory);
                self.tar
                    .append_data(&mut header, format!("{path}/"), io::empty())
                    .map_err(stream)?;
                let below = open_in(folder, name, OFlags::RDONLY | OFlags::DIRECTORY);
                let below = below.map_err(failed("read the folder", path))?;
                self.children(&below.into(), path, depth - 1)
            }
            FileType::RegularFile => {
                let file = open_in(folder, name, OFlags::RDONLY);
                self.file(file.map_err(failed("read", path))?, path)
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(folder, name, Vec::new());
                let target = target.map_err(failed("read the link", path))?;
                header.set_entry_type(EntryType::Symlink);
                let target = target.to_string_lossy().into_owned();
                self.tar.append_link(&mut header, path, target).map_err(stream)
            }
            FileType::Fifo => {
                header.set_entry_type(EntryType::Fifo);
                self.tar.append_data(&mut header, path, io::empty()).map_err(stream)
            }
            kind @ (FileType::CharacterDevice | FileType::BlockDevice) => {
                let character = kind == FileType::CharacterDevice;
                let kind = if character { EntryType::Char } else { EntryType::Block };
                header.set_entry_type(kind);
                header.set_device_major(rustix::fs::major(stat.st_rdev)).map_err(stream)?;
                header.set_device_minor(rustix::fs::minor(stat.st_rdev)).map_err(stream)?;
                self.tar.append_data(&mut header, path, io::empty()).map_err(stream)
            }
            _ => Ok(()),
        }
    }

    /// As many bytes as the file had when it was opened: one that shrinks meanwhile is filled up, so
    /// that what follows it stays readable.
    fn file(&mut self, file: File, path: &str) -> Result<(), CopyError> {
        let stat = rustix::fs::fstat(&file).map_err(failed("read", path))?;
        if !FileType::from_raw_mode(stat.st_mode).is_file() {
            return Err(failed("read", path)(rustix::io::Errno::STALE));
        }
        let mut header = header_of(&stat);
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        header.set_entry_type(EntryType::Regular);
        header.set_size(size);
        let filled = file.chain(io::repeat(0)).take(size);
        self.tar.append_data(&mut header, path, filled).map_err(|error| CopyError::Stream { error })
    }
}

fn header_of(stat: &Stat) -> Header {
    let mut header = Header::new_gnu();
    header.set_size(0);
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(stat.st_uid.into());
    header.set_gid(stat.st_gid.into());
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header
}

/// The name of an entry; none for the folder itself and its parent, and for what is no text.
fn own_name(name: &CStr) -> Option<&str> {
    name.to_str().ok().filter(|name| *name != "." && *name != "..")
}
