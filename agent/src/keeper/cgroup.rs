//! Control groups of containers: where they are, who is in them, what they counted, their end.
//!
//! libcontainer makes them; the keeper reads the counters, kills what is left and removes the
//! folders, because libcontainer removes one level only. Works on v1 (one folder a controller) and
//! v2 (one folder for all).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Rounds of killing and removing before it is given up: a process that is being torn down keeps
/// its cgroup busy for some milliseconds.
const REMOVE_ROUNDS: u32 = 400;
/// Time between the first two rounds; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);
/// Deepest nesting of cgroups that a container may have made in its own.
const MAX_NESTING: usize = 16;

/// One mounted cgroup file system.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    mount: PathBuf,
    /// Empty for v2.
    controllers: Vec<String>,
}

/// The cgroup file systems of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchies {
    v1: Vec<Hierarchy>,
    v2: Option<PathBuf>,
}

impl Hierarchies {
    /// Finds them among this process's mounts.
    pub(crate) fn find() -> io::Result<Self> {
        Ok(Self::parse(&fs::read_to_string("/proc/self/mountinfo")?))
    }

    fn parse(mountinfo: &str) -> Self {
        let mut found = Self { v1: Vec::new(), v2: None };
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let Some(mount) = left.split(' ').nth(4).map(PathBuf::from) else { continue };
            let mut right = right.split(' ');
            match (right.next(), right.nth(1)) {
                (Some("cgroup2"), _) => found.v2 = found.v2.or(Some(mount)),
                (Some("cgroup"), Some(options)) => {
                    let controllers = options
                        .split(',')
                        .filter(|option| !matches!(*option, "rw" | "ro" | "xattr"))
                        .filter(|option| !option.contains('='))
                        .map(str::to_owned);
                    let hierarchy = Hierarchy { mount, controllers: controllers.collect() };
                    if !hierarchy.controllers.is_empty() && !found.v1.contains(&hierarchy) {
                        found.v1.push(hierarchy);
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// The v1 folder of a controller for cgroup `path`.
    fn v1_folder(&self, controller: &str, path: &str) -> Option<PathBuf> {
        let has = |hierarchy: &&Hierarchy| hierarchy.controllers.iter().any(|c| c == controller);
        self.v1.iter().find(has).map(|hierarchy| join(&hierarchy.mount, path))
    }

    /// A file of cgroup `path`: `v1` names it in the controller's hierarchy, `v2` in the one for all. None
    /// if there is neither.
    pub(crate) fn file(
        &self,
        controller: &str,
        path: &str,
        (v1, v2): (&str, &str),
    ) -> Option<PathBuf> {
        match (self.v1_folder(controller, path), &self.v2) {
            (Some(folder), _) => Some(folder.join(v1)),
            (None, Some(mount)) => Some(join(mount, path).join(v2)),
            (None, None) => None,
        }
    }

    /// The text of such a file. Empty if it is not there.
    pub(crate) fn read(&self, controller: &str, path: &str, names: (&str, &str)) -> String {
        let file = self.file(controller, path, names);
        file.and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default()
    }

    /// Every folder that cgroup `path` may have.
    fn folders(&self, path: &str) -> impl Iterator<Item = PathBuf> {
        let v1 = self.v1.iter().map(|hierarchy| &hierarchy.mount);
        v1.chain(&self.v2).map(move |mount| join(mount, path))
    }

    /// The controllers that are there.
    pub(super) fn controllers(&self) -> Vec<String> {
        if !self.v1.is_empty() {
            return self.v1.iter().flat_map(|hierarchy| hierarchy.controllers.clone()).collect();
        }
        let text =
            self.v2.as_ref().map(|mount| fs::read_to_string(mount.join("cgroup.controllers")));
        let text = text.and_then(Result::ok).unwrap_or_default();
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// Whether the memory controller counts swap.
    pub(super) fn counts_swap(&self) -> bool {
        match self.v1_folder("memory", "") {
            Some(folder) => folder.join("memory.memsw.limit_in_bytes").exists(),
            None => self.v1.is_empty() && Path::new("/proc/swaps").exists(),
        }
    }

    /// How many processes of cgroup `path` the kernel killed for want of memory.
    pub(super) fn oom_kills(&self, path: &str) -> u64 {
        let file = match self.v1_folder("memory", path) {
            Some(folder) => folder.join("memory.oom_control"),
            None => match &self.v2 {
                Some(mount) => join(mount, path).join("memory.events"),
                None => return 0,
            },
        };
        let text = fs::read_to_string(file).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }

    /// Makes cgroup `path` where there is one hierarchy for all. libcgroups 0.7 looks for a folder and then makes
    /// it: of containers that are made at the same time one would find it made meanwhile, and fail. What
    /// stands in the way the container's own error says.
    pub(super) fn make(&self, path: &str) {
        if let Some(mount) = self.v2.as_ref().filter(|_| self.v1.is_empty()) {
            fs::create_dir_all(join(mount, path)).ok();
        }
    }

    /// Names of the cgroups directly under `path`.
    pub(super) fn children(&self, path: &str) -> Vec<String> {
        let mut names: Vec<String> =
            self.folders(path).flat_map(|folder| subfolders(&folder)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Kills every process in cgroup `path` and below. One round: what is forked meanwhile is for
    /// the next, unless the kernel can do it in one step (`cgroup.kill`, or frozen on v1).
    pub(super) fn kill(&self, path: &str) {
        if let Some(folder) = self.v2.as_ref().map(|mount| join(mount, path))
            && fs::write(folder.join("cgroup.kill"), "1").is_ok()
            && self.v1.is_empty()
        {
            return;
        }
        let freezer = self.v1_folder("freezer", path).map(|folder| folder.join("freezer.state"));
        let frozen = freezer.as_ref().is_some_and(|state| fs::write(state, "FROZEN").is_ok());
        for folder in self.folders(path) {
            kill_tree(&folder, MAX_NESTING);
        }
        if let Some(state) = freezer.filter(|_| frozen) {
            // A state that cannot be written has no processes that could stay frozen.
            drop(fs::write(state, "THAWED"));
        }
    }

    /// Whether a process is left in cgroup `path` itself.
    pub(super) fn has_processes(&self, path: &str) -> bool {
        self.folders(path).any(|folder| !processes(&folder).is_empty())
    }

    /// Removes cgroup `path` where it is empty; one that is in use stays.
    pub(super) fn remove_empty(&self, path: &str) -> io::Result<()> {
        for folder in self.folders(path).filter(|_| !path.trim_matches('/').is_empty()) {
            match fs::remove_dir(&folder) {
                Err(error)
                    if !matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::ResourceBusy
                    ) =>
                {
                    return Err(error);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Kills what is in cgroup `path` and removes it with all that is below. Waits for it.
    pub(super) fn remove(&self, path: &str) -> io::Result<()> {
        let mut last = Ok(());
        let mut pause = FIRST_PAUSE;
        for _ in 0..REMOVE_ROUNDS {
            last = self.folders(path).try_for_each(|folder| remove_tree(&folder, MAX_NESTING));
            if last.is_ok() {
                return Ok(());
            }
            self.kill(path);
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        last
    }
}

/// `path` below `mount`; it is absolute within each hierarchy.
fn join(mount: &Path, path: &str) -> PathBuf {
    mount.join(path.trim_start_matches('/'))
}

fn subfolders(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

fn processes(folder: &Path) -> Vec<Pid> {
    let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| Pid::from_raw(line.trim().parse().ok()?)).collect()
}

fn kill_tree(folder: &Path, depth: usize) {
    for pid in processes(folder) {
        // One that is gone already is what was wanted.
        kill_process(pid, Signal::KILL).ok();
    }
    if depth > 0 {
        for name in subfolders(folder) {
            kill_tree(&folder.join(name), depth - 1);
        }
    }
}

fn remove_tree(folder: &Path, depth: usize) -> io::Result<()> {
    if depth > 0 {
        for name in subfolders(folder) {
            remove_tree(&folder.join(name), depth - 1)?;
        }
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroup_of_all_containers_is_made_before_them() {
        let mount = tempfile::tempdir().unwrap();
        let unified = Hierarchies { v1: vec![], v2: Some(mount.path().to_owned()) };
        for _ in 0..2 {
            unified.make("/boards/limpet");
            assert!(mount.path().join("boards/limpet").is_dir());
        }
    }

    #[test]
    fn hierarchies_are_found_among_the_mounts() {
        let hybrid = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
        let found = Hierarchies::parse(hybrid);
        assert_eq!(found.controllers(), ["cpu", "cpuacct"]);
        assert_eq!(found.v1_folder("cpu", "/a/b"), Some("/sys/fs/cgroup/cpu,cpuacct/a/b".into()));
        assert_eq!(found.v1_folder("memory", "/a"), None);
        assert_eq!(found.v2, Some("/sys/fs/cgroup/unified".into()));

        let unified = "29 22 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = Hierarchies::parse(unified);
        assert!(found.v1.is_empty());
        assert_eq!(
            found.folders("/limpet/x").collect::<Vec<_>>(),
            [PathBuf::from("/sys/fs/cgroup/limpet/x")]
        );
    }
}
