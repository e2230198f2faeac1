//! A tar stream into a container.
//!
//! In: the container's root, a path, and the stream. Every entry's folder is resolved anew within
//! the root, and its last name is made within that folder and never followed: neither the stream
//! nor what the container does meanwhile leads out of it.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;
use tar::{Archive, Entry, EntryType};

use super::root::{CopyError, Root, create_in, failed, open_in, set_mode_in, stat_in};

/// Where entries go.
struct Target {
    /// The folder that takes them.
    folder: String,
    /// What the topmost name of each becomes; none leaves it.
    rename: Option<String>,
}

/// Unpacks a tar stream at `path`; see [`limpet_protocol::call::CallIn::Write`].
pub(super) fn receive(
    root: &Root,
    path: &str,
    contents: bool,
    stream: impl Read,
) -> Result<(), CopyError> {
    let target = target(root, path, contents)?;
    let mut archive = Archive::new(stream);
    let stream = |error| CopyError::Stream { error };
    for entry in archive.entries().map_err(stream)? {
        unpack(root, &target, &mut entry.map_err(stream)?)?;
    }
    Ok(())
}

fn target(root: &Root, path: &str, contents: bool) -> Result<Target, CopyError> {
    let (parent, name) = root.parent(path)?;
    let is_folder = root.folder(path).is_ok();
    if is_folder {
        return Ok(Target { folder: path.to_owned(), rename: None });
    }
    if contents {
        let made = rustix::fs::mkdirat(&parent, &name, Mode::from_bits_truncate(0o755));
        made.map_err(failed("make the folder", path))?;
        return Ok(Target { folder: path.to_owned(), rename: None });
    }
    if path.ends_with('/') {
        return Err(failed("find the folder", path)(Errno::NOENT));
    }
    let folder = path.trim_end_matches('/').rsplit_once('/').map_or("", |(folder, _)| folder);
    Ok(Target { folder: folder.to_owned(), rename: Some(name) })
}

impl Target {
    /// Where an entry goes: the folder and the name in it; none for the folder itself.
    fn place(&self, path: &Path) -> Result<Option<(String, String)>, CopyError> {
        let shown = || path.to_string_lossy().chars().take(200).collect();
        let bad = |why| CopyError::BadPath { path: shown(), why };
        let mut parts = Vec::new();
        for part in path.components() {
            match part {
                Component::Normal(part) => {
                    parts.push(part.to_str().ok_or_else(|| bad("it is no text"))?);
                }
                Component::CurDir | Component::RootDir => {}
                Component::ParentDir | Component::Prefix(_) => return Err(bad("it has .. in it")),
            }
        }
        if let (Some(first), Some(new)) = (parts.first_mut(), &self.rename) {
            *first = new;
        }
        let Some(name) = parts.pop() else { return Ok(None) };
        let folder = format!("{}/{}", self.folder.trim_end_matches('/'), parts.join("/"));
        Ok(Some((folder, name.to_owned())))
    }
}

fn unpack(root: &Root, target: &Target, entry: &mut Entry<'_, impl Read>) -> Result<(), CopyError> {
    let path = entry.path().map_err(|error| CopyError::Stream { error })?.into_owned();
    let Some((folder, name)) = target.place(&path)? else { return Ok(()) };
    let shown = format!("{folder}/{name}");
    let parent = root.folder(&folder).map_err(failed("find the folder of", &shown))?;
    let at = (&parent, name.as_str());
    match entry.header().entry_type() {
        EntryType::Directory => make_folder(at, &shown)?,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            write_file(at, &shown, entry)?;
        }
        EntryType::Symlink => {
            let link = entry.link_name().map_err(|error| CopyError::Stream { error })?;
            let link = link.unwrap_or_default().into_owned();
            remove(at, &shown)?;
            rustix::fs::symlinkat(&link, &parent, &name)
                .map_err(failed("make the link", &shown))?;
        }
        EntryType::Link => {
            let link = entry.link_name().map_err(|error| CopyError::Stream { error })?;
            hard_link(root, target, (&parent, &name), &link.unwrap_or_default())?;
            return Ok(());
        }
        EntryType::XGlobalHeader => return Ok(()),
        _ => {
            let error =
                io::Error::other("devices, pipes and the like are not copied into containers");
            return Err(CopyError::File { attempt: "make", path: shown, error });
        }
    }
    own(at, &shown, entry)
}

/// A folder that is there stays.
fn make_folder((parent, name): (&OwnedFd, &str), shown: &str) -> Result<(), CopyError> {
    match rustix::fs::mkdirat(parent, name, Mode::from_bits_truncate(0o755)) {
        Err(Errno::EXIST)
            if stat_in(parent, name)
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir()) =>
        {
            Ok(())
        }
        other => other.map_err(failed("make the folder", shown)),
    }
}

/// Removes what is in the way, unless it is a folder.
fn remove((parent, name): (&OwnedFd, &str), shown: &str) -> Result<(), CopyError> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(failed("replace", shown)(errno)),
    }
}

fn write_file(
    (parent, name): (&OwnedFd, &str),
    shown: &str,
    content: &mut impl Read,
) -> Result<(), CopyError> {
    let mut file = match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => create_in(parent, name),
        // A file that is mounted by itself cannot be replaced, but written.
        Err(Errno::BUSY) => open_in(parent, name, OFlags::WRONLY),
        Err(errno) => Err(errno),
    }
    .map_err(failed("write", shown))?;
    let error = |error| CopyError::File { attempt: "write", path: shown.to_owned(), error };
    let is_file = file.metadata().map_err(error)?.is_file();
    if !is_file {
        return Err(failed("write", shown)(Errno::EXIST));
    }
    file.set_len(0).map_err(error)?;
    io::copy(content, &mut file).map(|_| ()).map_err(error)
}

fn hard_link(
    root: &Root,
    target: &Target,
    (parent, name): (&OwnedFd, &str),
    link: &Path,
) -> Result<(), CopyError> {
    let Some((folder, old)) = target.place(link)? else { return Ok(()) };
    let shown = format!("{folder}/{old}");
    let from = root.folder(&folder).map_err(failed("find the folder of", &shown))?;
    remove((parent, name), name)?;
    rustix::fs::linkat(&from, &old, parent, name, AtFlags::empty())
        .map_err(failed("link to", &shown))
}

/// Gives an entry its owner, mode and time.
fn own(
    (parent, name): (&OwnedFd, &str),
    shown: &str,
    entry: &Entry<'_, impl Read>,
) -> Result<(), CopyError> {
    let header = entry.header();
    let stream = |error| CopyError::Stream { error };
    let number = |id: u64| u32::try_from(id).unwrap_or(u32::MAX - 1);
    let uid = Uid::from_raw(number(header.uid().map_err(stream)?));
    let gid = Gid::from_raw(number(header.gid().map_err(stream)?));
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(parent, name, Some(uid), Some(gid), flags)
        .map_err(failed("give an owner to", shown))?;
    if header.entry_type() != EntryType::Symlink {
        let mode = Mode::from_raw_mode(header.mode().map_err(stream)? & 0o7777);
        set_mode_in(parent, name, mode).map_err(failed("give a mode to", shown))?;
    }
    let seconds = i64::try_from(header.mtime().map_err(stream)?).unwrap_or(0);
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: 0 },
    };
    rustix::fs::utimensat(parent, name, &times, flags).map_err(failed("give a time to", shown))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::tree_out;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    struct World {
        folder: tempfile::TempDir,
        root: Root,
    }

    /// A container's root with a folder beside it that nobody may reach.
    fn world() -> World {
        let folder = tempfile::tempdir().unwrap();
        for name in ["root/data", "root/etc", "outside"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("outside/secret"), "secret").unwrap();
        let outside = folder.path().join("outside");
        symlink(&outside, folder.path().join("root/absolute")).unwrap();
        symlink("../../outside", folder.path().join("root/data/relative")).unwrap();
        symlink("/etc", folder.path().join("root/inside")).unwrap();
        let root = Root::at(&folder.path().join("root"));
        World { folder, root }
    }

    impl World {
        fn read(&self, path: &str) -> String {
            fs::read_to_string(self.folder.path().join(path)).unwrap()
        }
        fn receive(&self, path: &str, contents: bool, tar: &[u8]) -> Result<(), CopyError> {
            receive(&self.root, path, contents, tar)
        }
        fn send(&self, path: &str) -> Result<Vec<(String, EntryType)>, CopyError> {
            let mut tar = Vec::new();
            tree_out::send(&self.root, path, &mut tar)?;
            let mut archive = Archive::new(tar.as_slice());
            let entry = |entry: io::Result<Entry<'_, &[u8]>>| {
                let entry = entry.unwrap();
                (entry.path().unwrap().display().to_string(), entry.header().entry_type())
            };
            Ok(archive.entries().unwrap().map(entry).collect())
        }
        fn nothing_outside(&self) {
            let left: Vec<_> = fs::read_dir(self.folder.path().join("outside")).unwrap().collect();
            assert_eq!(left.len(), 1);
            assert_eq!(self.read("outside/secret"), "secret");
        }
    }

    /// Path, kind, and content or where it leads.
    type Made = (&'static str, EntryType, &'static str);

    fn tar(entries: &[Made]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o640);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(1);
            header.set_size(0);
            // Written as it is: the library would refuse what a hostile stream has.
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            if matches!(kind, EntryType::Symlink | EntryType::Link) {
                header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
                header.set_cksum();
                builder.append(&header, io::empty()).unwrap();
            } else {
                header.set_size(content.len() as u64);
                header.set_cksum();
                builder.append(&header, content.as_bytes()).unwrap();
            }
        }
        builder.into_inner().unwrap()
    }

    const FILE: EntryType = EntryType::Regular;

    #[test]
    fn a_file_goes_into_a_folder_or_takes_a_name() {
        let world = world();
        let file = tar(&[("a", FILE, "content")]);
        world.receive("/data", false, &file).unwrap();
        world.receive("/data/", false, &file).unwrap();
        world.receive("/data/new", false, &file).unwrap();
        world.receive("/data/new", false, &tar(&[("b", FILE, "again")])).unwrap();
        world.receive("/inside", false, &file).unwrap();
        assert_eq!(world.read("root/data/a"), "content");
        assert_eq!(world.read("root/data/new"), "again");
        assert_eq!(world.read("root/etc/a"), "content");
        let mode = fs::metadata(world.folder.path().join("root/data/a")).unwrap().permissions();
        assert_eq!(mode.mode() & 0o7777, 0o640);
        assert!(world.receive("/nothing/", false, &file).is_err());
        assert!(world.receive("/nothing/a", false, &file).is_err());
        let tree = tar(&[("t/", EntryType::Directory, ""), ("t/x", FILE, "x")]);
        world.receive("/data", false, &tree).unwrap();
        world.receive("/data/u", false, &tree).unwrap();
        world
            .receive("/data/c", true, &tar(&[("./", EntryType::Directory, ""), ("./x", FILE, "y")]))
            .unwrap();
        assert_eq!(world.read("root/data/t/x") + &world.read("root/data/u/x"), "xx");
        assert_eq!(world.read("root/data/c/x"), "y");
    }

    #[test]
    fn nothing_leads_out() {
        let world = world();
        let hostile: [(&str, &[Made]); 8] = [
            ("/", &[("../outside/new", FILE, "x")]),
            ("/", &[("data/../../outside/new", FILE, "x")]),
            ("/absolute", &[("new", FILE, "x")]),
            ("/data/relative", &[("new", FILE, "x")]),
            ("/data", &[("relative/new", FILE, "x")]),
            ("/", &[("absolute/new", FILE, "x")]),
            ("/data", &[("l", EntryType::Symlink, "../../outside"), ("l/new", FILE, "x")]),
            ("/data", &[("h", EntryType::Link, "relative/secret"), ("h", FILE, "x")]),
        ];
        for (path, entries) in hostile {
            // It fails, or it lands within the root; the one thing that may not be is outside.
            drop(world.receive(path, false, &tar(entries)));
            world.nothing_outside();
        }
        // A link in the way of a file is replaced, not followed.
        symlink("../../outside/secret", world.folder.path().join("root/data/trap")).unwrap();
        world.receive("/data", false, &tar(&[("trap", FILE, "x")])).unwrap();
        world.nothing_outside();
        assert!(world.receive("/data", false, &tar(&[("d", EntryType::Char, "")])).is_err());
        assert!(
            world.receive("/data", false, b"no tar at all, but long enough to be read").is_err()
        );
    }

    #[test]
    fn links_are_sent_and_not_followed() {
        let world = world();
        fs::write(world.folder.path().join("root/data/file"), "x").unwrap();
        let mut sent = world.send("/data").unwrap();
        sent.sort_by(|a, b| a.0.cmp(&b.0));
        let names: Vec<_> = sent.iter().map(|(path, kind)| (path.as_str(), *kind)).collect();
        let expected = [
            ("data/", EntryType::Directory),
            ("data/file", FILE),
            ("data/relative", EntryType::Symlink),
        ];
        assert_eq!(names, expected);
        assert_eq!(world.send("/absolute").unwrap()[0].1, EntryType::Symlink);
        assert!(world.send("/absolute/secret").is_err());
        assert!(world.send("/data/relative/secret").is_err());
        assert!(world.send("/data/../../outside/secret").is_err());
        assert!(world.send("/nothing").is_err());
        assert!(world.send("/data/file/").is_err());
    }
}
