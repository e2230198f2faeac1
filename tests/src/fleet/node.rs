//! One node of a fleet: its agent, its folder, what runs on it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::process::{Running, wait_for};

/// One node of the fleet.
#[derive(Debug)]
pub struct Node {
    pub(super) name: String,
    pub(super) agent: Option<Running>,
    pub(super) folder: PathBuf,
    pub(super) cgroup: String,
}

impl Node {
    /// The node's agent.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn agent(&mut self) -> &mut Running {
        self.agent.as_mut().expect("the agent runs")
    }

    /// Kills the agent; keeper and containers go on.
    pub fn kill_agent(&mut self) {
        self.agent().kill();
        self.agent = None;
    }

    /// Ends everything on the node at once and empties what is only in memory, as far as a node among others can
    /// lose its power: the kernel goes on.
    ///
    /// # Panics
    /// When something does not end.
    pub fn cut_the_power(&mut self) {
        self.kill_agent();
        // The keeper first: it would tell of the ends of containers, or start others.
        for pid in self.keeper_pid().into_iter().chain(self.container_pids()) {
            end(pid);
        }
        wait_for("everything on the node to be gone", || {
            self.container_pids().into_iter().for_each(end);
            let gone = self.keeper_pid().is_none() && self.container_pids().is_empty();
            gone.then_some(())
        });
        unmount_below(&self.folder);
        fs::remove_dir_all(self.folder.join("run")).unwrap();
    }

    /// The node's folder, with `data` and `run` in it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Every process in the node's cgroup, which are those of its containers.
    #[must_use]
    pub fn container_pids(&self) -> Vec<u32> {
        let mut pids = vec![];
        collect_pids(&Path::new("/sys/fs/cgroup/pids").join(&self.cgroup[1..]), &mut pids);
        collect_pids(&Path::new("/sys/fs/cgroup").join(&self.cgroup[1..]), &mut pids);
        pids.sort_unstable();
        pids
    }

    /// The keeper: the process whose parent is not ours and whose arguments name the node's folder.
    #[must_use]
    pub fn keeper_pid(&self) -> Option<u32> {
        self.find(|words| words.get(1).is_some_and(|word| word == "keeper"))
    }

    /// A process whose arguments name the node's folder, and that is as it is to be.
    fn find(&self, is_it: impl Fn(&[String]) -> bool) -> Option<u32> {
        let run = self.folder.join("run").to_string_lossy().into_owned();
        let all = fs::read_dir("/proc").ok()?.flatten();
        all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words = line.split(|byte| *byte == 0);
            let words: Vec<_> = words.map(|it| String::from_utf8_lossy(it).into_owned()).collect();
            words.iter().any(|word| word.starts_with(&run)) && is_it(&words)
        })
    }
}

/// Ends a process if it is still there.
fn end(pid: u32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid.cast_signed()) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// Mounts in the run folder are gone with the memory they are in.
fn unmount_below(folder: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let below = mounts.lines().rev().filter_map(|line| line.split(' ').nth(1));
    for path in below.filter(|path| Path::new(path).starts_with(folder)) {
        let _ = rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH);
    }
}

fn collect_pids(cgroup: &Path, pids: &mut Vec<u32>) {
    if let Ok(text) = fs::read_to_string(cgroup.join("cgroup.procs")) {
        pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    }
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            collect_pids(&entry.path(), pids);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.agent.take());
        self.container_pids().into_iter().for_each(end);
        // Also what is not a keeper yet: a child of the agent that was about to become one.
        while let Some(pid) = self.find(|_| true) {
            end(pid);
        }
        remove_cgroup_everywhere(&self.cgroup[1..]);
    }
}

/// Removes a cgroup from every hierarchy, waiting for the last processes in it to be gone.
pub fn remove_cgroup_everywhere(name: &str) {
    for _ in 0..500 {
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        let below: usize = hierarchies.map(|it| remove_cgroups(&it.path().join(name))).sum();
        if below + remove_cgroups(&Path::new("/sys/fs/cgroup").join(name)) == 0 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Removes a cgroup and those below it; gives how many would not go.
fn remove_cgroups(cgroup: &Path) -> usize {
    let below =
        fs::read_dir(cgroup).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir());
    let left: usize = below.map(|entry| remove_cgroups(&entry.path())).sum();
    left + usize::from(cgroup.is_dir() && fs::remove_dir(cgroup).is_err())
}
