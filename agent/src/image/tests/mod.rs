//! The image store with real parts: layers on a real file system, a registry on a real socket.

mod pulling;
mod registry;
mod unpacking;

use std::collections::HashSet;
use std::path::Path;

/// Root is needed to make devices and set owners, as on every node.
fn assert_root() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root: run it with sudo");
}

/// Every path below a folder with its time of change: equal before and after means nothing was written.
fn snapshot(folder: &Path) -> HashSet<(std::path::PathBuf, i64, i64)> {
    use std::os::unix::fs::MetadataExt as _;
    let mut found = HashSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let facts = std::fs::symlink_metadata(&path).unwrap();
            if facts.is_dir() {
                folders.push(path.clone());
            }
            found.insert((path, facts.ctime(), facts.ctime_nsec()));
        }
    }
    found
}
