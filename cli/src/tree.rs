//! Files and folders of this machine as tar streams, out and in, as `docker cp` names them.
//!
//! What comes from a container may be hostile: it is unpacked beside its destination, where no entry
//! leads out of a folder that is ours, and then moved into place.

use std::fs::{self, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tar::{Archive, Builder, EntryType, Header};

/// Whose the files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// As they were.
    Kept,
    /// Root's in a container, and whoever copies here.
    New,
}

/// Something here that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("read {}", .path.display())]
pub struct Unreadable {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Writes `from` as a tar stream: as one topmost entry of its name, or what is in it.
///
/// # Errors
/// [`Unreadable`], or if the stream breaks.
pub fn pack(from: &Path, contents: bool, owners: Owners, to: impl Write) -> anyhow::Result<()> {
    let mut tar = Builder::new(to);
    let name = match from.file_name() {
        _ if contents => PathBuf::from("."),
        Some(name) => PathBuf::from(name),
        // `.`, `..` and `/` have their own names elsewhere.
        None => match fs::canonicalize(from).ok().as_deref().and_then(Path::file_name) {
            Some(name) => PathBuf::from(name),
            None => PathBuf::from("."),
        },
    };
    pack_entry(from, &name, owners, &mut tar)?;
    tar.into_inner()?.flush()?;
    Ok(())
}

fn pack_entry(
    from: &Path,
    name: &Path,
    owners: Owners,
    tar: &mut Builder<impl Write>,
) -> anyhow::Result<()> {
    let unreadable = |source| Unreadable { path: from.to_owned(), source };
    let metadata = fs::symlink_metadata(from).map_err(unreadable)?;
    let mut header = header_of(&metadata, owners);
    if metadata.is_dir() {
        header.set_entry_type(EntryType::Directory);
        tar.append_data(&mut header, name.join(""), io::empty())?;
        let mut entries: Vec<_> = fs::read_dir(from)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(unreadable)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            pack_entry(&entry.path(), &name.join(entry.file_name()), owners, tar)?;
        }
    } else if metadata.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        tar.append_link(&mut header, name, fs::read_link(from).map_err(unreadable)?)?;
    } else if metadata.is_file() {
        let file = fs::File::open(from).map_err(unreadable)?;
        header.set_size(metadata.len());
        // One that shrinks meanwhile is filled up, so that what follows it stays readable.
        tar.append_data(&mut header, name, file.chain(io::repeat(0)).take(metadata.len()))?;
    }
    Ok(())
}

fn header_of(metadata: &Metadata, owners: Owners) -> Header {
    let mut header = Header::new_gnu();
    header.set_size(0);
    header.set_mode(metadata.mode() & 0o7777);
    let kept = owners == Owners::Kept;
    header.set_uid(if kept { metadata.uid().into() } else { 0 });
    header.set_gid(if kept { metadata.gid().into() } else { 0 });
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
    header
}

/// Unpacks a tar stream with one topmost entry: into `to` if that is a folder, as `to` otherwise. With
/// `contents`, what is in the topmost entry goes into the folder `to`.
///
/// # Errors
/// If the stream breaks, or something cannot be written.
pub fn unpack(from: impl Read, to: &Path, contents: bool, owners: Owners) -> anyhow::Result<()> {
    let is_folder = to.is_dir();
    let beside = if is_folder { to } else { to.parent().unwrap_or(Path::new("")) };
    let beside = if beside.as_os_str().is_empty() { Path::new(".") } else { beside };
    if !is_folder && to.as_os_str().as_encoded_bytes().ends_with(b"/") {
        anyhow::bail!("{} is not there", to.display());
    }
    let scratch = Scratch::beside(beside)?;
    let mut archive = Archive::new(from);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(owners == Owners::Kept);
    archive.unpack(&scratch.0)?;
    for entry in fs::read_dir(&scratch.0)? {
        let entry = entry?;
        let place = match (contents, is_folder) {
            (true, _) | (false, false) => to.to_owned(),
            (false, true) => to.join(entry.file_name()),
        };
        put(&entry.path(), &place)?;
    }
    Ok(())
}

/// Moves something into its place: a folder into a folder that is there, anything else over what is.
fn put(from: &Path, to: &Path) -> anyhow::Result<()> {
    let is_folder = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    if is_folder(from) && to.is_dir() {
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            put(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    if is_folder(to) && !is_folder(from) {
        anyhow::bail!("{} is a folder and cannot be replaced by a file", to.display());
    }
    fs::rename(from, to).with_context(|| format!("write {}", to.display()))
}

/// A folder that is gone when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn beside(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(format!(".limpet-cp-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("write to {}", folder.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed has a name that says whose it was.
        drop(fs::remove_dir_all(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_come_back_under_the_names_that_docker_gives() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("t/sub")).unwrap();
        fs::write(at("t/sub/file"), "content").unwrap();
        std::os::unix::fs::symlink("sub/file", at("t/link")).unwrap();
        let packed = |from: &str, contents| {
            let mut tar = Vec::new();
            pack(&at(from), contents, Owners::New, &mut tar).unwrap();
            tar
        };
        let tree = packed("t", false);
        fs::create_dir(at("there")).unwrap();
        unpack(tree.as_slice(), &at("there"), false, Owners::New).unwrap();
        unpack(tree.as_slice(), &at("new"), false, Owners::New).unwrap();
        unpack(tree.as_slice(), &at("there"), true, Owners::New).unwrap();
        for place in ["there/t", "new", "there"] {
            assert_eq!(fs::read_to_string(at(place).join("link")).unwrap(), "content", "{place}");
        }
        let file = packed("t/sub/file", false);
        unpack(file.as_slice(), &at("there/t/sub/file"), false, Owners::New).unwrap();
        unpack(file.as_slice(), &at("renamed"), false, Owners::New).unwrap();
        assert_eq!(fs::read_to_string(at("renamed")).unwrap(), "content");
        assert!(unpack(file.as_slice(), &at("nothing/"), false, Owners::New).is_err());
        let left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{left:?}");
    }

    #[test]
    fn a_hostile_stream_stays_where_it_belongs() {
        let folder = tempfile::tempdir().unwrap();
        let outside = folder.path().join("outside");
        fs::write(&outside, "mine").unwrap();
        let into = folder.path().join("into");
        fs::create_dir(&into).unwrap();
        let mut tar = Builder::new(Vec::new());
        let mut link = Header::new_gnu();
        link.set_entry_type(EntryType::Symlink);
        link.set_size(0);
        tar.append_link(&mut link, "way", folder.path()).unwrap();
        let mut file = Header::new_gnu();
        file.set_size(5);
        file.set_mode(0o644);
        tar.append_data(&mut file, "way/outside", &b"yours"[..]).unwrap();
        let tar = tar.into_inner().unwrap();
        assert!(unpack(tar.as_slice(), &into, false, Owners::New).is_err());
        assert_eq!(fs::read_to_string(&outside).unwrap(), "mine");
    }
}
