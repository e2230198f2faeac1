//! Folders within volumes (`volume.subpath`): found without a link, mounted while their container is
//! made.
//!
//! What is in a volume is a container's doing. A link in it that leads to the node's own files must
//! not be what the next container gets, also when it is put there between the look and the mount: so
//! every step is opened from the one before, and what was opened is what is bound. The binds are no
//! part of the bundle, and their places are never removed with what is in them.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, mount_bind_recursive, unmount};

use super::bundle::open_folder;
use super::plan::VolumePlan;
use super::volume::VolumeError;
use crate::runtime::RuntimePaths;

/// Binds the wanted folders of volumes, which are there, to their places. `root` is where the image is
/// mounted.
pub(super) fn bind(
    paths: &RuntimePaths,
    id: &str,
    volumes: &[VolumePlan],
    root: &OwnedFd,
) -> Result<(), VolumeError> {
    for (index, wanted) in volumes.iter().enumerate() {
        let Some(subpath) = &wanted.subpath else { continue };
        let failed = |source| VolumeError::Subpath {
            name: wanted.name.clone(),
            subpath: subpath.clone(),
            source,
        };
        let folder = find(&paths.volumes().join(&wanted.name), subpath, (&wanted.target, root));
        let folder = folder.map_err(failed)?;
        let place = paths.subpath(id, index);
        fs::create_dir_all(&place).map_err(failed)?;
        let opened = format!("/proc/self/fd/{}", folder.as_raw_fd());
        mount_bind_recursive(opened, &place).map_err(|error| failed(error.into()))?;
    }
    Ok(())
}

/// Takes the binds of a container away; it has its own by now.
pub(super) fn remove(paths: &RuntimePaths, id: &str) -> io::Result<()> {
    let folder = paths.subpaths_of(id);
    let places = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for place in places {
        let place = place?.path();
        // Nothing is mounted where the keeper that did it is dead.
        while unmount(&place, UnmountFlags::DETACH).is_ok() {}
        fs::remove_dir(&place)?;
    }
    fs::remove_dir(&folder)
}

/// Opens a folder within a volume, and makes what is missing on the way to it. A new one belongs to
/// whom its place in the image belongs to.
fn find(volume: &Path, subpath: &str, (target, root): (&str, &OwnedFd)) -> io::Result<OwnedFd> {
    let mut folder = open_folder(volume)?;
    for part in subpath.split('/') {
        let made = match rustix::fs::mkdirat(&folder, part, Mode::from_bits_truncate(0o755)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(error.into()),
        };
        folder = step(&folder, part)?;
        if made {
            like_image(&folder, target, root)?;
        }
    }
    Ok(folder)
}

fn step(folder: &OwnedFd, part: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(folder, part, flags, Mode::empty(), resolve)?)
}

fn like_image(folder: &OwnedFd, target: &str, root: &OwnedFd) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let target = target.trim_start_matches('/');
    let Ok(place) = rustix::fs::openat2(root, target, flags, Mode::empty(), resolve) else {
        return Ok(());
    };
    let found = rustix::fs::fstat(&place)?;
    // Owner first: changing it clears the set-id bits.
    let owner = (Some(Uid::from_raw(found.st_uid)), Some(Gid::from_raw(found.st_gid)));
    rustix::fs::fchown(folder, owner.0, owner.1)?;
    Ok(rustix::fs::fchmod(folder, Mode::from_raw_mode(found.st_mode & 0o7777))?)
}
