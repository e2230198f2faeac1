//! Named volumes: folders under the volume root, first filled with what the image has there.
//!
//! As Docker does: a volume that is new takes the content, owner and mode of its place in the
//! image, unless it is to begin empty or the container sees a folder of it only. It is filled beside its place and renamed, so a volume is whole or not there.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::plan::VolumePlan;

/// Most files that a volume takes over from an image.
const MAX_FILES: usize = 100_000;

/// A volume that could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum VolumeError {
    /// A name that would lead out of the volume root.
    #[error("{name:?} is no name for a volume: use letters, digits, '.', '-' and '_'")]
    Name { name: String },
    /// Its folder or content.
    #[error("make volume {name}")]
    Make { name: String, source: io::Error },
    /// A folder within it.
    #[error("find the folder {subpath} in volume {name}; there must be no link on the way to it")]
    Subpath { name: String, subpath: String, source: io::Error },
}

/// Makes volume `wanted` under `volumes` if it is not there, with the content at its place in the
/// image that is mounted at `root`. `id` makes the name of the folder that is filled unique.
pub(super) fn ensure(
    volumes: &Path,
    wanted: &VolumePlan,
    root: &OwnedFd,
    id: &str,
) -> Result<(), VolumeError> {
    let name = &wanted.name;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(legal) {
        return Err(VolumeError::Name { name: name.clone() });
    }
    let place = volumes.join(name);
    if place.is_dir() {
        return Ok(());
    }
    fill(volumes, &place, wanted, root, id)
        .map_err(|source| VolumeError::Make { name: name.clone(), source })
}

fn fill(
    volumes: &Path,
    place: &Path,
    wanted: &VolumePlan,
    root: &OwnedFd,
    id: &str,
) -> io::Result<()> {
    let new = volumes.join(format!(".{}.{id}", wanted.name));
    match fs::remove_dir_all(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::create_dir_all(&new)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let target = wanted.target.trim_start_matches('/');
    if let Ok(source) = rustix::fs::openat2(root, target, flags, Mode::empty(), resolve)
        && !wanted.no_copy
        && wanted.subpath.is_none()
    {
        let source = PathBuf::from(format!("/proc/self/fd/{}/.", source.as_raw_fd()));
        let mut left = MAX_FILES;
        copy_folder(&source, &new, &mut left)?;
    }
    match fs::rename(&new, place) {
        // Another container of the same service was faster; both copied the same.
        Err(_) if place.is_dir() => fs::remove_dir_all(&new),
        other => other,
    }
}

fn copy_folder(from: &Path, to: &Path, left: &mut usize) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        *left = left.checked_sub(1).ok_or_else(|| {
            io::Error::other(format!("the image has more than {MAX_FILES} files there"))
        })?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            fs::create_dir(&target)?;
            copy_folder(&source, &target, left)?;
        } else if metadata.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
            lchown(&target, Some(metadata.uid()), Some(metadata.gid()))?;
        } else if metadata.is_file() {
            fs::copy(&source, &target)?;
            like(&target, &metadata)?;
        }
        // Sockets, pipes and devices of an image are not content.
    }
    like(to, &fs::metadata(from)?)
}

/// Owner first: changing it clears the set-id bits.
fn like(path: &Path, metadata: &fs::Metadata) -> io::Result<()> {
    chown(path, Some(metadata.uid()), Some(metadata.gid()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(metadata.mode() & 0o7777))
}
