//! Where one `limpet up` keeps its things.
//!
//! In comes the data folder; out come the folders of its parts and the names that must differ from
//! those of another `limpet up` on the same machine. Pure.

use std::path::{Path, PathBuf};

use crate::connection::{CONTROLLER_FOLDER, DEFAULT_DATA};

/// Memory-backed folder of the default data folder's agent; not that of a `limpet agent` by itself.
const DEFAULT_RUN: &str = "/run/limpet-up";
/// Cgroup of the default data folder's containers.
const DEFAULT_CGROUP: &str = "/limpet-up";

/// The folders and names of one `limpet up`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// All that stays.
    pub data: PathBuf,
    /// The controller's part of it.
    pub controller: PathBuf,
    /// The agent's part of it.
    pub agent: PathBuf,
    /// The configuration that the agent is started with.
    pub agent_config: PathBuf,
    /// What a reboot may clear: sockets and logs.
    pub run: PathBuf,
    /// The cgroup above those of all containers.
    pub cgroup_parent: String,
}

impl Layout {
    /// The layout of a data folder, which must be an absolute path without links in it, so that
    /// one folder has one layout whatever it is called by.
    #[must_use]
    pub fn of(data: &Path) -> Self {
        let tag = if data == Path::new(DEFAULT_DATA) {
            String::new()
        } else {
            format!("-{:08x}", fingerprint(data))
        };
        Self {
            data: data.to_owned(),
            controller: data.join(CONTROLLER_FOLDER),
            agent: data.join("agent"),
            agent_config: data.join("agent.toml"),
            run: PathBuf::from(format!("{DEFAULT_RUN}{tag}")),
            cgroup_parent: format!("{DEFAULT_CGROUP}{tag}"),
        }
    }
}

/// FNV-1a of the path, folded to 32 bits: short, because a socket's path may have 108 bytes only,
/// and the same in every version, because a new version has to find the containers of an old one.
fn fingerprint(path: &Path) -> u32 {
    use std::os::unix::ffi::OsStrExt as _;
    let bytes = path.as_os_str().as_bytes().iter();
    bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_data_folder_has_its_own_names() {
        let default = Layout::of(Path::new(DEFAULT_DATA));
        assert_eq!(default.run, Path::new("/run/limpet-up"));
        assert_eq!(default.cgroup_parent, "/limpet-up");
        let (one, two) = (Layout::of(Path::new("/tmp/a")), Layout::of(Path::new("/tmp/b")));
        assert_ne!(one.run, two.run);
        assert_ne!(one.cgroup_parent, two.cgroup_parent);
        assert_eq!(one.run, Path::new("/run/limpet-up-1828ba67"), "as every version before");
        assert_eq!(one, Layout::of(Path::new("/tmp/a")));
    }
}
