//! The root folder of a running container, as the agent may enter it.
//!
//! Every path is resolved by the kernel as if the container's root were the whole file system
//! (`RESOLVE_IN_ROOT`) and never through the magic links of `/proc`, so nothing that a container
//! puts into its files leads out of it. What is resolved is a folder; the last name of a path is
//! only ever used within that folder and never followed.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat};

use crate::keeper::record::{Record, RecordStatus, start_time};
use crate::runtime::{ContainerId, RuntimePaths};

/// Longest path in a container.
const MAX_PATH_BYTES: usize = 4096;

/// Why something could not be copied.
#[derive(Debug, thiserror::Error)]
pub(super) enum CopyError {
    /// It has no root to enter.
    #[error("{id} does not run; files are copied from and to a running instance")]
    NotRunning { id: String },
    /// A path that is none.
    #[error("{path:?} is no path in the container: {why}")]
    BadPath { path: String, why: &'static str },
    /// Something about a file.
    #[error("{attempt} {path} in the container: {error}")]
    File { attempt: &'static str, path: String, error: io::Error },
    /// The tar stream is not one, or it broke off.
    #[error("the tar stream: {error}")]
    Stream { error: io::Error },
}

pub(super) fn failed(
    attempt: &'static str,
    path: &str,
) -> impl Fn(rustix::io::Errno) -> CopyError + use<> {
    let path = path.to_owned();
    move |errno| CopyError::File { attempt, path: path.clone(), error: errno.into() }
}

/// A container's root folder.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

impl Root {
    /// That of a container, if it runs.
    pub(super) fn of(paths: &RuntimePaths, id: &ContainerId) -> Result<Self, CopyError> {
        let not_running = || CopyError::NotRunning { id: id.to_string() };
        let record = Record::load(&paths.bundle(&id.to_string())).map_err(|_| not_running())?;
        let RecordStatus::Running { pid, start_time: started } = record.status else {
            return Err(not_running());
        };
        let root = open_folder(CWD, &format!("/proc/{pid}/root"), ResolveFlags::empty());
        let root = root.map_err(|_| not_running())?;
        // Asked after it is held: the number was this process's when it was opened.
        if start_time(pid) == Some(started) { Ok(Self(root)) } else { Err(not_running()) }
    }

    /// A folder as the root, for tests.
    #[cfg(test)]
    pub(super) fn at(folder: &std::path::Path) -> Self {
        Self(open_folder(CWD, &folder.to_string_lossy(), ResolveFlags::empty()).unwrap())
    }

    /// A folder of the container.
    pub(super) fn folder(&self, path: &str) -> rustix::io::Result<OwnedFd> {
        let path = path.trim_start_matches('/');
        let path = if path.is_empty() { "." } else { path };
        open_folder(&self.0, path, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
    }

    /// The folder that holds the last name of a path, and that name; an empty name is the root itself.
    pub(super) fn parent(&self, path: &str) -> Result<(OwnedFd, String), CopyError> {
        let (folder, name) = split(path)?;
        let parent = self.folder(folder).map_err(failed("find the folder of", path))?;
        Ok((parent, name.to_owned()))
    }
}

fn open_folder(at: impl AsFd, path: &str, resolve: ResolveFlags) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat2(at, path, flags, Mode::empty(), resolve)
}

/// Opens a file or folder that is there, by its name in a folder, without following it. It is held
/// and looked at before it is opened: what a container puts in its place meanwhile may be a device,
/// and to open one is to do something.
pub(super) fn open_in(folder: impl AsFd, name: &str, flags: OFlags) -> rustix::io::Result<File> {
    let held = hold(folder, name)?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&held)?.st_mode);
    if !kind.is_file() && !kind.is_dir() {
        return Err(rustix::io::Errno::NXIO);
    }
    let flags = flags | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(itself(&held), flags, Mode::empty())?.into())
}

/// Makes a new file of this name in a folder.
pub(super) fn create_in(folder: impl AsFd, name: &str) -> rustix::io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(folder, name, flags, Mode::from_bits_truncate(0o600))?.into())
}

/// Sets the mode of what a name in a folder is, without following it.
pub(super) fn set_mode_in(folder: impl AsFd, name: &str, mode: Mode) -> rustix::io::Result<()> {
    let held = hold(folder, name)?;
    if FileType::from_raw_mode(rustix::fs::fstat(&held)?.st_mode).is_symlink() {
        return Ok(());
    }
    rustix::fs::chmod(itself(&held), mode)
}

fn hold(folder: impl AsFd, name: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(folder, name, flags, Mode::empty())
}

/// A path that means what is held, and nothing else.
fn itself(held: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", held.as_raw_fd())
}

/// What a name in a folder is, without following it.
pub(super) fn stat_in(folder: impl AsFd, name: &str) -> rustix::io::Result<Stat> {
    rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// The folder and the last name of an absolute path.
fn split(path: &str) -> Result<(&str, &str), CopyError> {
    let bad = |why| CopyError::BadPath { path: path.chars().take(200).collect(), why };
    if path.len() > MAX_PATH_BYTES || path.contains('\0') {
        return Err(bad("it is too long, or has a NUL in it"));
    }
    if !path.starts_with('/') {
        return Err(bad("it must begin with /"));
    }
    let whole = path.trim_end_matches('/');
    let (folder, name) = whole.rsplit_once('/').unwrap_or(("", ""));
    if name == ".." {
        return Err(bad("name the folder itself instead of ending in .."));
    }
    if name == "." {
        return split(folder);
    }
    Ok((folder, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_folder_and_a_name() {
        let table = [
            ("/", Some(("", ""))),
            ("/a", Some(("", "a"))),
            ("/a/b//", Some(("/a", "b"))),
            ("/a/b/.", Some(("/a", "b"))),
            ("/a/../b", Some(("/a/..", "b"))),
            ("/a/..", None),
            ("a", None),
            ("", None),
            ("/a\0", None),
        ];
        for (path, expected) in table {
            assert_eq!(split(path).ok(), expected, "{path:?}");
        }
    }
}
