//! What `limpet up` clears away after the agent has stopped every container: the run folder and
//! the empty cgroups. Nothing is forced: a cgroup with a process in it stays, and then so does the
//! run folder, by which the next agent finds that process.

use std::path::Path;

use super::layout::Layout;

/// Where the cgroup file systems are.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Clears away what has no more use. What cannot go stays and does no harm.
pub fn clear(layout: &Layout) {
    let name = layout.cgroup_parent.trim_start_matches('/');
    let root = Path::new(CGROUPS);
    let hierarchies = std::fs::read_dir(root).into_iter().flatten().flatten();
    let mut roots: Vec<_> = hierarchies.map(|entry| entry.path()).collect();
    roots.push(root.to_owned());
    let mut empty = true;
    for root in &roots {
        empty &= remove_cgroups(&root.join(name));
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    if empty && !mounts.contains(&format!(" {}/", layout.run.display())) {
        std::fs::remove_dir_all(&layout.run).ok();
    }
}

/// Removes a cgroup and those below it, as far as they are empty; whether it is gone.
fn remove_cgroups(cgroup: &Path) -> bool {
    for entry in std::fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroups(&entry.path());
        }
    }
    std::fs::remove_dir(cgroup).is_ok() || !cgroup.exists()
}
