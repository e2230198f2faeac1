//! Configs and secrets of a container: files in memory, made by the forked child.
//!
//! In: names, owners and permission bits of the plan, and the ledger. Out: a file system of its own in
//! the bundle whose files are bound into the container. It is a ramfs: it is never written to swap,
//! is there for nobody but the keeper and the containers that get a file of it, and goes with the
//! container. The child reads the node's key and opens the seal itself, so that the clear text is
//! neither in the agent's memory nor in the keeper's, in no message and in no file on disk.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::plan::ContentPlan;
use crate::ledger::content;

/// The folder of these files in a bundle.
const FOLDER: &str = "contents";

/// A file that could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum ContentError {
    /// The file system that holds them.
    #[error("mount memory for configs and secrets at {path}")]
    Mount { path: PathBuf, source: io::Error },
    /// Its content.
    #[error("open {what}: {reason}")]
    Open { what: String, reason: String },
    /// The file.
    #[error("make the file of {what}")]
    Make { what: String, source: io::Error },
}

/// Where the file of the plan's content `index` is.
pub(crate) fn file(bundle: &Path, index: usize) -> PathBuf {
    bundle.join(FOLDER).join(index.to_string())
}

/// Makes the files of a container.
pub(super) fn make(data: &Path, bundle: &Path, wanted: &[ContentPlan]) -> Result<(), ContentError> {
    if wanted.is_empty() {
        return Ok(());
    }
    let folder = bundle.join(FOLDER);
    let mounted = fs::create_dir_all(&folder).and_then(|()| {
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        Ok(mount("limpet", &folder, "ramfs", flags, c"mode=0700")?)
    });
    mounted.map_err(|source| ContentError::Mount { path: folder.clone(), source })?;
    for (index, content) in wanted.iter().enumerate() {
        let clear = content::clear(data, content.content)
            .map_err(|reason| ContentError::Open { what: content.what.clone(), reason })?;
        write(&file(bundle, index), content, clear.expose())
            .map_err(|source| ContentError::Make { what: content.what.clone(), source })?;
    }
    Ok(())
}

/// Owner first: changing it clears the set-id bits.
fn write(path: &Path, content: &ContentPlan, clear: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(clear)?;
    fchown(&file, Some(content.uid), Some(content.gid))?;
    file.set_permissions(Permissions::from_mode(content.mode))
}

/// Takes the files of a bundle away.
pub(super) fn remove(bundle: &Path) {
    // Nothing is mounted where nothing was wanted, or where the keeper that did it is dead.
    while unmount(bundle.join(FOLDER), UnmountFlags::DETACH).is_ok() {}
}
