//! One entry of a layer, written below a folder that nothing leads out of.
//!
//! In: tar entries in their order. Out: files. The parent of an entry is opened by the kernel with
//! `RESOLVE_IN_ROOT`, the last name is never followed. Whiteouts become overlayfs's character
//! device 0/0, opaque folders get `trusted.overlay.opaque`. Times of folders are set at the end,
//! since writing into them changes them.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid,
    XattrFlags,
};
use rustix::io::Errno;

use super::unpack::UnpackError;

const WHITEOUT_PREFIX: &[u8] = b".wh.";
const OPAQUE_MARK: &[u8] = b".wh..wh..opq";
/// aufs's own records, which Docker wrote into layers long ago: they mean nothing to others.
const AUFS_PREFIX: &[u8] = b".wh..wh.";
const PAX_XATTR: &str = "SCHILY.xattr.";
/// As many links as the kernel follows for one path.
const MAX_LINKS: u32 = 40;
const COPY_BYTES: usize = 64 * 1024;
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The folder that a layer is unpacked into.
pub(super) struct Tree {
    root: OwnedFd,
    folder_times: Vec<(PathBuf, Timestamps)>,
    buffer: Vec<u8>,
}

/// What every entry has.
struct Facts {
    path: PathBuf,
    mode: Mode,
    owner: Uid,
    group: Gid,
    times: Timestamps,
    xattrs: Vec<(String, Vec<u8>)>,
}

type Entry<'a, R> = tar::Entry<'a, R>;

impl Tree {
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let root = rustix::fs::openat(CWD, folder, FOLDER, Mode::empty())?;
        // What is not said in the layer is what Docker makes of it.
        set_mode(&root, Mode::from_raw_mode(0o755))?;
        Ok(Self { root, folder_times: Vec::new(), buffer: vec![0; COPY_BYTES] })
    }

    /// Writes one entry.
    pub(super) fn write<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<(), UnpackError> {
        let raw = entry.path().map_err(UnpackError::Stream)?.into_owned();
        let refused = |reason| UnpackError::Refused { path: raw.clone(), reason };
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            return Ok(());
        }
        let path = below(&raw).ok_or_else(|| refused("leads out of the layer"))?;
        let facts = Facts::of(entry, path).map_err(UnpackError::Stream)?;
        let failed = |source| UnpackError::Entry { path: raw.clone(), source };
        let Some(name) = facts.path.file_name().map(OsStr::to_owned) else {
            return self.root_entry(&facts).map_err(failed);
        };
        let parent = facts.path.parent().unwrap_or(Path::new(""));
        let parent = self.folder(parent, MAX_LINKS).map_err(failed)?;
        if name.as_bytes().starts_with(WHITEOUT_PREFIX) {
            return whiteout(&parent, &name).map_err(failed);
        }
        match kind {
            tar::EntryType::Directory => self.make_folder(&parent, &name, &facts),
            tar::EntryType::Link => {
                let target = entry.link_name().map_err(UnpackError::Stream)?;
                let target = target.as_deref().and_then(below);
                let target = target.ok_or_else(|| refused("links to nothing in the layer"))?;
                self.hard_link(&parent, &name, &target, &facts)
            }
            tar::EntryType::Symlink => {
                let target = entry.link_name_bytes().map(|target| target.into_owned());
                let target = target.ok_or_else(|| refused("is a link without a target"))?;
                clear(&parent, &name).and_then(|_| symbolic_link(&parent, &name, &target, &facts))
            }
            tar::EntryType::Char | tar::EntryType::Block | tar::EntryType::Fifo => {
                let device = device(entry).map_err(UnpackError::Stream)?;
                special(&parent, &name, device, &facts)
            }
            kind if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() => {
                self.file(&parent, &name, entry, &facts)
            }
            _ => return Err(refused("is of a kind that no layer has")),
        }
        .map_err(failed)
    }

    /// Sets what has to wait until everything is written.
    pub(super) fn finish(self) -> Result<(), UnpackError> {
        for (path, times) in self.folder_times.iter().rev() {
            let failed = |source| UnpackError::Entry { path: path.clone(), source };
            match open_below(&self.root, path) {
                Ok(folder) => set_times(&folder, times).map_err(failed)?,
                // A later entry put something else in its place.
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => return Err(failed(error.into())),
            }
        }
        Ok(())
    }

    fn root_entry(&mut self, facts: &Facts) -> io::Result<()> {
        let root = self.root.try_clone()?;
        self.dress_folder(&root, facts)
    }

    /// Opens the folder, making it and those above it where the layer did not name them. A link
    /// on the way stays, and what it points to is made.
    fn folder(&self, path: &Path, links: u32) -> io::Result<OwnedFd> {
        match open_below(&self.root, path) {
            Ok(folder) => return Ok(folder),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(error) => return Err(error.into()),
        }
        let Some(name) = path.file_name() else { return self.root.try_clone() };
        let parent = path.parent().unwrap_or(Path::new(""));
        let above = self.folder(parent, links)?;
        let kind = look(&above, name)?.map(|found| FileType::from_raw_mode(found.st_mode));
        if kind == Some(FileType::Symlink) {
            let links = links.checked_sub(1).ok_or(Errno::LOOP)?;
            let target = rustix::fs::readlinkat(&above, name, Vec::new())?;
            let target = Path::new(OsStr::from_bytes(target.as_bytes()));
            return self.folder(&resolved(&parent.join(target)), links);
        }
        refuse_abyss(&above)?;
        let was_hidden = clear(&above, name)?;
        rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o755))?;
        let folder = rustix::fs::openat(&above, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
        set_mode(&folder, Mode::from_raw_mode(0o755))?;
        if was_hidden {
            set_opaque(&folder)?;
        }
        Ok(folder)
    }

    fn make_folder(&mut self, parent: &OwnedFd, name: &OsStr, facts: &Facts) -> io::Result<()> {
        let is_folder = look(parent, name)?
            .is_some_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Directory);
        let was_hidden = !is_folder && clear(parent, name)?;
        if !is_folder {
            refuse_abyss(parent)?;
            rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700))?;
        }
        let folder = rustix::fs::openat(parent, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
        if was_hidden {
            // The layer removes what was below and starts anew: nothing of it may shine through.
            set_opaque(&folder)?;
        }
        self.dress_folder(&folder, facts)
    }

    fn dress_folder(&mut self, folder: &OwnedFd, facts: &Facts) -> io::Result<()> {
        chown(folder, facts)?;
        set_mode(folder, facts.mode)?;
        set_xattrs(folder, facts)?;
        self.folder_times.push((facts.path.clone(), facts.times.clone()));
        Ok(())
    }

    fn file<R: Read>(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        entry: &mut Entry<'_, R>,
        facts: &Facts,
    ) -> io::Result<()> {
        clear(parent, name)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(parent, name, flags | OFlags::NOFOLLOW, Mode::RUSR)?;
        let mut file = std::fs::File::from(file);
        loop {
            let read = entry.read(&mut self.buffer)?;
            if read == 0 {
                break;
            }
            io::Write::write_all(&mut file, &self.buffer[..read])?;
        }
        // A change of owner takes setuid and capabilities away, so it comes first.
        rustix::fs::fchown(&file, Some(facts.owner), Some(facts.group))?;
        rustix::fs::fchmod(&file, facts.mode)?;
        for (name, value) in &facts.xattrs {
            unless_unsupported(rustix::fs::fsetxattr(
                &file,
                name.as_str(),
                value,
                XattrFlags::empty(),
            ))?;
        }
        Ok(rustix::fs::futimens(&file, &facts.times)?)
    }

    fn hard_link(
        &self,
        parent: &OwnedFd,
        name: &OsStr,
        target: &Path,
        facts: &Facts,
    ) -> io::Result<()> {
        if target == facts.path {
            return Ok(());
        }
        let target_name = target.file_name().ok_or(Errno::ISDIR)?;
        let target_parent = open_below(&self.root, target.parent().unwrap_or(Path::new("")))?;
        clear(parent, name)?;
        rustix::fs::linkat(&target_parent, target_name, parent, name, AtFlags::empty())?;
        Ok(())
    }
}

impl Facts {
    fn of<R: Read>(entry: &mut Entry<'_, R>, path: PathBuf) -> io::Result<Self> {
        let header = entry.header();
        let id = |id: u64| u32::try_from(id).map_err(|_| bad("an owner is out of range"));
        let (mut owner, mut group) = (id(header.uid()?)?, id(header.gid()?)?);
        let mode = Mode::from_raw_mode(header.mode()? & 0o7777);
        let mut modified = Timespec {
            tv_sec: i64::try_from(header.mtime()?).map_err(|_| bad("a time is out of range"))?,
            tv_nsec: 0,
        };
        let mut xattrs = Vec::new();
        if let Some(records) = entry.pax_extensions()? {
            for record in records {
                let record = record?;
                let (Ok(key), value) = (record.key(), record.value_bytes()) else { continue };
                match key {
                    "mtime" => modified = time(value).ok_or_else(|| bad("a time is none"))?,
                    "uid" => owner = number(value).ok_or_else(|| bad("an owner is none"))?,
                    "gid" => group = number(value).ok_or_else(|| bad("a group is none"))?,
                    _ => {
                        let name = key.strip_prefix(PAX_XATTR).filter(|name| is_kept(name));
                        xattrs.extend(name.map(|name| (name.to_owned(), value.to_vec())));
                    }
                }
            }
        }
        let times = Timestamps { last_access: modified, last_modification: modified };
        let (owner, group) = (Uid::from_raw(owner), Gid::from_raw(group));
        Ok(Self { path, mode, owner, group, times, xattrs })
    }
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn number(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `seconds[.fraction]`, as PAX writes times.
fn time(text: &[u8]) -> Option<Timespec> {
    const DIGITS: usize = 9;
    let text = std::str::from_utf8(text).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut digits: String = fraction.chars().take(DIGITS).collect();
    while digits.len() < DIGITS {
        digits.push('0');
    }
    let (tv_sec, tv_nsec): (i64, u32) = (seconds.parse().ok()?, digits.parse().ok()?);
    Some(Timespec { tv_sec, tv_nsec: tv_nsec.into() })
}

/// Attributes that an image may set. overlayfs's own would let a layer reach into others.
fn is_kept(name: &str) -> bool {
    (name.starts_with("user.") && !name.starts_with("user.overlay."))
        || matches!(
            name,
            "security.capability" | "system.posix_acl_access" | "system.posix_acl_default"
        )
}

/// The path below the layer's root; none if it has `..`.
fn below(path: &Path) -> Option<PathBuf> {
    let mut result = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => result.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(result)
}

/// The path with `..` taken by its letters; above the root there is the root.
fn resolved(path: &Path) -> PathBuf {
    let mut result = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => result.push(name),
            Component::ParentDir => drop(result.pop()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    result
}

fn open_below(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, FOLDER, Mode::empty(), resolve)
}

/// By way of links a layer could nest folders without end, and who removes them later would have
/// to descend as deep. The kernel tells no path that is longer than 4096 bytes.
fn refuse_abyss(folder: &OwnedFd) -> io::Result<()> {
    std::fs::read_link(by_descriptor(folder)).map(drop)
}

fn look(parent: &OwnedFd, name: &OsStr) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Removes what has the name in this layer; answers whether that was a whiteout.
fn clear(parent: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    let Some(found) = look(parent, name)? else { return Ok(false) };
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Directory => {
            // By way of the descriptor, so that no name on the way can be exchanged.
            let mut path = OsString::from(format!("/proc/self/fd/{}/", parent.as_raw_fd()));
            path.push(name);
            std::fs::remove_dir_all(path)?;
        }
        _ => rustix::fs::unlinkat(parent, name, AtFlags::empty())?,
    }
    Ok(is_whiteout(&found))
}

fn is_whiteout(found: &Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice && found.st_rdev == 0
}

fn whiteout(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    if name.as_bytes() == OPAQUE_MARK {
        return set_opaque(parent);
    }
    if name.as_bytes().starts_with(AUFS_PREFIX) {
        return Ok(());
    }
    let hidden = OsStr::from_bytes(&name.as_bytes()[WHITEOUT_PREFIX.len()..]);
    if hidden.is_empty() || hidden == "." || hidden == ".." {
        return Err(bad("a whiteout names nothing"));
    }
    // A whiteout speaks of the layers below only: what this layer has stays, and hides them.
    if let Some(found) = look(parent, hidden)? {
        if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
            let flags = FOLDER | OFlags::NOFOLLOW;
            set_opaque(&rustix::fs::openat(parent, hidden, flags, Mode::empty())?)?;
        }
        return Ok(());
    }
    let device = rustix::fs::makedev(0, 0);
    rustix::fs::mknodat(parent, hidden, FileType::CharacterDevice, Mode::empty(), device)?;
    Ok(())
}

fn symbolic_link(parent: &OwnedFd, name: &OsStr, target: &[u8], facts: &Facts) -> io::Result<()> {
    rustix::fs::symlinkat(OsStr::from_bytes(target), parent, name)?;
    dress_name(parent, name, facts)
}

fn device<R: Read>(entry: &Entry<'_, R>) -> io::Result<(FileType, u64)> {
    let header = entry.header();
    let number = || -> io::Result<u64> {
        let major = header.device_major()?.unwrap_or(0);
        Ok(rustix::fs::makedev(major, header.device_minor()?.unwrap_or(0)))
    };
    Ok(match header.entry_type() {
        tar::EntryType::Char => (FileType::CharacterDevice, number()?),
        tar::EntryType::Block => (FileType::BlockDevice, number()?),
        _ => (FileType::Fifo, 0),
    })
}

fn special(
    parent: &OwnedFd,
    name: &OsStr,
    (kind, device): (FileType, u64),
    facts: &Facts,
) -> io::Result<()> {
    clear(parent, name)?;
    rustix::fs::mknodat(parent, name, kind, Mode::empty(), device)?;
    dress_name(parent, name, facts)?;
    Ok(rustix::fs::chmodat(parent, name, facts.mode, AtFlags::empty())?)
}

fn dress_name(parent: &OwnedFd, name: &OsStr, facts: &Facts) -> io::Result<()> {
    let here = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(parent, name, Some(facts.owner), Some(facts.group), here)?;
    Ok(rustix::fs::utimensat(parent, name, &facts.times, here)?)
}

/// The name of an open folder for calls that take no `O_PATH` descriptor.
fn by_descriptor(folder: &impl AsFd) -> String {
    format!("/proc/self/fd/{}", folder.as_fd().as_raw_fd())
}

fn set_mode(folder: &OwnedFd, mode: Mode) -> io::Result<()> {
    Ok(rustix::fs::chmodat(CWD, by_descriptor(folder), mode, AtFlags::empty())?)
}

fn chown(folder: &OwnedFd, facts: &Facts) -> io::Result<()> {
    let (owner, group) = (Some(facts.owner), Some(facts.group));
    Ok(rustix::fs::chownat(folder, "", owner, group, AtFlags::EMPTY_PATH)?)
}

fn set_times(folder: &OwnedFd, times: &Timestamps) -> io::Result<()> {
    Ok(rustix::fs::utimensat(CWD, by_descriptor(folder), times, AtFlags::empty())?)
}

fn set_opaque(folder: &OwnedFd) -> io::Result<()> {
    let name = "trusted.overlay.opaque";
    Ok(rustix::fs::setxattr(by_descriptor(folder), name, b"y", XattrFlags::empty())?)
}

fn set_xattrs(folder: &OwnedFd, facts: &Facts) -> io::Result<()> {
    for (name, value) in &facts.xattrs {
        let path = by_descriptor(folder);
        unless_unsupported(rustix::fs::setxattr(path, name.as_str(), value, XattrFlags::empty()))?;
    }
    Ok(())
}

/// A file system without user attributes or access lists still runs the image; one without
/// capabilities would run it wrongly, and says so with another error.
fn unless_unsupported(result: Result<(), Errno>) -> io::Result<()> {
    match result {
        Err(Errno::OPNOTSUPP) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
