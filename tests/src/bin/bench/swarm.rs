//! Docker Swarm as a contender: a daemon of our own in a network namespace of its own.
//!
//! Only where `dockerd` and `docker` are installed (Debian: `docker.io`); it touches no other
//! Docker on the machine, and everything of it is gone afterwards.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use limpet_tests::fleet::remove_cgroup_everywhere;
use limpet_tests::process::{Running, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::contender::{Contender, SETTLE};
use crate::measure::{Memory, descendants, memory, monotonic_ns, ms_between, output, stamps};

/// Under which its containers are.
const CGROUP: &str = "limpet-bench-swarm";

pub(crate) struct Swarm {
    daemon: Running,
    folder: TempDir,
    count: usize,
}

impl Swarm {
    /// Starts it, or says why not.
    pub(crate) fn start() -> Option<Self> {
        let installed = |name: &str| {
            ["/usr/bin", "/usr/sbin"].iter().any(|f| PathBuf::from(f).join(name).exists())
        };
        if !installed("dockerd") || !installed("docker") {
            eprintln!(
                "Docker Swarm is not installed (Debian: docker.io), so its column stays empty"
            );
            return None;
        }
        let folder = tempfile::Builder::new().prefix("limpet-bench-swarm").tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let daemon = format!(
            "ip link set lo up && exec dockerd --data-root {} --exec-root {} -p {} -H unix://{} --iptables=false --bridge=none --cgroup-parent /{CGROUP}",
            at("data"),
            at("exec"),
            at("pid"),
            at("sock")
        );
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", &daemon]);
        let daemon = Running::start("dockerd", folder.path(), &mut command);
        let swarm = Self { daemon, folder, count: 0 };
        wait_for("dockerd to answer", || {
            swarm.docker().arg("info").output().ok()?.status.success().then_some(())
        });
        output(swarm.docker().args(["swarm", "init", "--advertise-addr", "127.0.0.1"]));
        swarm.load_image();
        Some(swarm)
    }

    pub(crate) fn docker(&self) -> Command {
        let mut command = Command::new("docker");
        command.arg("-H").arg(format!("unix://{}", self.folder.path().join("sock").display()));
        command
    }

    /// Docker 20.10 reads its own archives only; skopeo makes one of ours.
    fn load_image(&self) {
        let (ours, theirs) =
            (self.folder.path().join("oci.tar"), self.folder.path().join("docker.tar"));
        fs::write(&ours, limpet_images::demo_archive()).unwrap();
        let mut copy = Command::new("skopeo");
        copy.args(["--insecure-policy", "copy", "--quiet"])
            .arg(format!("oci-archive:{}", ours.display()));
        output(copy.arg(format!("docker-archive:{}:limpet-demo:latest", theirs.display())));
        output(self.docker().arg("load").arg("-i").arg(&theirs));
    }

    /// The name of the newest service.
    pub(crate) fn service(&self) -> String {
        format!("bench{}", self.count)
    }

    pub(crate) fn containers(&self) -> Vec<String> {
        output(self.docker().args(["ps", "-q", "--no-trunc"]))
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    }

    pub(crate) fn stamps_of(&self, containers: &[String]) -> Vec<u64> {
        containers.iter().flat_map(|id| stamps(&output(self.docker().args(["logs", id])))).collect()
    }

    pub(crate) fn up(&mut self, replicas: usize) -> f64 {
        self.count += 1;
        let (name, replicas_text) = (self.service(), replicas.to_string());
        let begin = monotonic_ns();
        output(self.docker().args([
            "service",
            "create",
            "--detach",
            "--quiet",
            "--no-resolve-image",
            "--name",
            &name,
            "--network",
            "host",
            "--replicas",
            &replicas_text,
            "--restart-delay",
            "0s",
            "limpet-demo:latest",
            "stamp",
        ]));
        let found = wait_for("every container to stamp", || {
            let containers = self.containers();
            let found =
                if containers.len() == replicas { self.stamps_of(&containers) } else { vec![] };
            (found.len() == replicas).then_some(found)
        });
        ms_between(begin, found.into_iter().max().unwrap())
    }

    pub(crate) fn down(&mut self) {
        output(self.docker().args(["service", "rm", &self.service()]));
        wait_for("all containers to be gone", || {
            let all = output(self.docker().args(["ps", "-aq"]));
            all.trim().is_empty().then_some(())
        });
    }
}

impl Contender for Swarm {
    fn deploy(&mut self, replicas: usize) -> f64 {
        let time = self.up(replicas);
        self.down();
        time
    }

    fn kill_and_replace(&mut self) -> f64 {
        self.up(1);
        std::thread::sleep(SETTLE);
        let id = self.containers().remove(0);
        let pid: i32 = output(self.docker().args(["inspect", "-f", "{{.State.Pid}}", &id]))
            .trim()
            .parse()
            .unwrap();
        let begin = monotonic_ns();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        let stamp = wait_for("the replacement to stamp", || {
            self.stamps_of(&self.containers()).into_iter().find(|stamp| *stamp > begin)
        });
        self.down();
        ms_between(begin, stamp)
    }

    fn memory(&mut self, containers: usize) -> Memory {
        if containers > 0 {
            self.up(containers);
        }
        let workloads: Vec<u32> = (self.containers().iter())
            .filter_map(|id| {
                output(self.docker().args(["inspect", "-f", "{{.State.Pid}}", id]))
                    .trim()
                    .parse()
                    .ok()
            })
            .collect();
        // Shims are children of process 1; they name our folder in their arguments.
        let folder = self.folder.path().to_string_lossy().into_owned();
        let shims = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse::<u32>().ok()?;
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            (line.contains("containerd-shim") && line.contains(&folder)).then_some(pid)
        });
        let mut pids: Vec<u32> = descendants(self.daemon.pid()).into_iter().chain(shims).collect();
        pids.sort_unstable();
        pids.dedup();
        pids.retain(|pid| !workloads.contains(pid));
        let sum = memory(&pids);
        if containers > 0 {
            self.down();
        }
        sum
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        drop(self.docker().args(["swarm", "leave", "--force"]).output());
        self.daemon.stop();
        remove_cgroup_everywhere(CGROUP);
        for mount in fs::read_to_string("/proc/mounts").unwrap_or_default().lines().rev() {
            let target = mount.split(' ').nth(1).unwrap_or_default();
            if target.starts_with(&*self.folder.path().to_string_lossy()) {
                let _ = rustix::mount::unmount(target, rustix::mount::UnmountFlags::DETACH);
            }
        }
    }
}
