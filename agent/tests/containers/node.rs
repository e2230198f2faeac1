//! A node for one test: folders, keeper, an image made of Debian's busybox.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use limpet_agent::image::PreparedImage;
use limpet_agent::runtime::keeper_client::KeeperRuntime;
use limpet_agent::runtime::logs::LogReader;
use limpet_agent::runtime::{
    ContainerId, ContainerRequest, ContainerState, Runtime, RuntimeEvent, RuntimePaths,
};
use limpet_protocol::id::SpecHash;
use limpet_protocol::report::Exit;
use limpet_protocol::spec::*;

/// Everything has happened by then, also on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
static NUMBER: AtomicU32 = AtomicU32::new(0);

pub(crate) struct Node {
    pub(crate) runtime: KeeperRuntime,
    pub(crate) paths: RuntimePaths,
    pub(crate) image: Arc<PreparedImage>,
    folder: tempfile::TempDir,
    next: u32,
}

pub(crate) fn exe() -> PathBuf {
    std::env::var_os("LIMPET_TEST_EXE")
        .map_or_else(|| env!("CARGO_BIN_EXE_limpet-agent").into(), PathBuf::from)
}

#[expect(clippy::disallowed_methods, reason = "tests measure")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A layer of busybox with users, a file of root's and a folder with content.
pub(crate) fn busybox_layer(layer: &Path) {
    for folder in ["bin", "etc", "tmp", "proc", "sys", "dev", "data", "root"] {
        std::fs::create_dir_all(layer.join(folder)).unwrap();
    }
    std::fs::copy("/bin/busybox", layer.join("bin/busybox")).unwrap();
    for name in [
        "sh", "sleep", "echo", "cat", "true", "false", "id", "ls", "touch", "mount", "unshare",
        "dd", "yes", "head", "grep", "ip", "mknod", "kill", "trap", "env", "pwd", "hostname",
        "chroot", "ps", "mkdir", "sync", "wc", "seq", "tail", "chown", "nproc", "usleep", "dmesg",
        "stty", "test",
    ] {
        symlink("busybox", layer.join("bin").join(name)).unwrap();
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:web:/data:/bin/sh\n";
    std::fs::write(layer.join("etc/passwd"), passwd).unwrap();
    std::fs::write(layer.join("etc/group"), "root:x:0:\nwww:x:33:\naudio:x:29:web\n").unwrap();
    std::fs::write(layer.join("data/seed"), "from the image\n").unwrap();
    std::os::unix::fs::chown(layer.join("data"), Some(33), Some(33)).unwrap();
}

impl Node {
    pub(crate) async fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests run real containers: run them as root"
        );
        let folder = tempfile::tempdir().unwrap();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let paths = RuntimePaths {
            run: folder.path().join("run"),
            data: folder.path().join("data"),
            cgroup_parent: format!("/limpet-test-{}-{number}", std::process::id()),
        };
        let layer = folder.path().join("layer");
        busybox_layer(&layer);
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": []},
        });
        let image = Arc::new(PreparedImage {
            digest: "sha256:0".to_owned(),
            check: None,
            config: serde_json::from_value(config).unwrap(),
            layers: vec![layer],
        });
        let runtime = KeeperRuntime::connect(paths.clone(), exe());
        let mut node = Self { runtime, paths, image, folder, next: 1 };
        assert!(matches!(node.event().await, RuntimeEvent::Snapshot(all) if all.is_empty()));
        node
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) async fn event(&mut self) -> RuntimeEvent {
        tokio::time::timeout(PATIENCE, self.runtime.next_event()).await.expect("an event in time")
    }

    pub(crate) fn new_id(&mut self) -> ContainerId {
        self.next += 1;
        format!("test.web.1.{}", self.next).parse().unwrap()
    }

    pub(crate) fn spec(script: &str) -> Spec {
        let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let process = Process { command: Some(command), ..Process::default() };
        let image = ImageSource::new("busybox");
        Spec { process, ..Spec::new("test".parse().unwrap(), "web".parse().unwrap(), image) }
    }

    /// Asks for a container.
    pub(crate) fn ask(&mut self, spec: Spec) -> ContainerId {
        let id = self.new_id();
        let request = ContainerRequest {
            id: id.clone(),
            spec: Arc::new(spec),
            spec_hash: SpecHash([7; 32]),
            image: Arc::clone(&self.image),
            network: None,
        };
        self.runtime.start(&request).unwrap();
        id
    }

    /// Starts a container and waits until it runs.
    pub(crate) async fn start(&mut self, spec: Spec) -> (ContainerId, u32) {
        let wanted = self.ask(spec);
        match self.event().await {
            RuntimeEvent::Started { id, pid } if id == wanted => (id, pid),
            other => panic!("{other:?}; {}", self.keeper_log()),
        }
    }

    pub(crate) async fn exit_of(&mut self, wanted: &ContainerId) -> Exit {
        match self.event().await {
            RuntimeEvent::Exited { id, exit } if id == *wanted => exit,
            other => panic!("{other:?}; {}", self.keeper_log()),
        }
    }

    pub(crate) async fn remove(&mut self, wanted: &ContainerId) {
        self.runtime.remove(wanted).unwrap();
        match self.event().await {
            RuntimeEvent::Removed { id } if id == *wanted => {}
            other => panic!("{other:?}; {}", self.keeper_log()),
        }
    }

    /// Runs a container to its end, removes it, and answers its exit and all its output.
    pub(crate) async fn run(&mut self, spec: Spec) -> (Exit, String) {
        let (id, _) = self.start(spec).await;
        let exit = self.exit_of(&id).await;
        let output = self.log(&id);
        self.remove(&id).await;
        (exit, output)
    }

    pub(crate) async fn snapshot(&mut self) -> Vec<ContainerState> {
        loop {
            if let RuntimeEvent::Snapshot(all) = self.event().await {
                return all;
            }
        }
    }

    pub(crate) fn log(&self, id: &ContainerId) -> String {
        let mut reader = match LogReader::open(&self.paths, id, None) {
            Ok(reader) => reader,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return String::new(),
            Err(error) => panic!("{error}"),
        };
        let mut all = Vec::new();
        loop {
            let lines = reader.read(1 << 20).unwrap();
            if lines.is_empty() {
                return String::from_utf8_lossy(&all).into_owned();
            }
            all.extend(lines.into_iter().flat_map(|line| line.data));
        }
    }

    pub(crate) fn keeper_log(&self) -> String {
        std::fs::read_to_string(self.paths.run.join("keeper.log")).unwrap_or_default()
    }

    pub(crate) fn keeper_pid(&self) -> u32 {
        let wanted = self.paths.run.to_string_lossy().into_owned();
        let own = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let pid: u32 = name.parse().ok()?;
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
            let exe = line.starts_with("limpet-keeper\0keeper\0") && line.contains(&wanted);
            let main = ppid_name(pid).is_none_or(|parent| parent != "limpet-keeper");
            (exe && main).then_some(pid)
        });
        let mut all: Vec<u32> = own.collect();
        all.sort_unstable();
        *all.first().expect("a keeper")
    }

    /// Every trace of containers that is left on the node, for a person to read.
    pub(crate) fn traces(&self) -> Vec<String> {
        let mut found = Vec::new();
        for folder in ["run/containers", "run/state", "run/subpaths", "run/logs", "data/containers"]
        {
            let path = self.folder.path().join(folder);
            let entries = std::fs::read_dir(path).into_iter().flatten();
            found.extend(entries.map(|entry| format!("{:?}", entry.unwrap().path())));
        }
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap() {
            let parent = hierarchy.unwrap().path().join(&self.paths.cgroup_parent[1..]);
            let entries = std::fs::read_dir(parent).into_iter().flatten();
            let folders = entries.map(Result::unwrap).filter(|e| e.file_type().unwrap().is_dir());
            found.extend(folders.map(|entry| format!("{:?}", entry.path())));
        }
        found
    }

    /// Ends the keeper; nothing may be left.
    pub(crate) async fn end(mut self) {
        self.runtime.shutdown(0).unwrap();
        while !matches!(self.event().await, RuntimeEvent::KeeperLost { .. }) {}
        assert_eq!(self.traces(), [""; 0], "{}", self.keeper_log());
    }
}

fn ppid_name(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.to_owned();
    let line = std::fs::read_to_string(format!("/proc/{parent}/cmdline")).ok()?;
    line.split('\0').next().map(str::to_owned)
}

impl Drop for Node {
    /// For a test that failed: its keeper and containers must not stay.
    fn drop(&mut self) {
        let wanted = self.paths.run.to_string_lossy().into_owned();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok())
            else {
                continue;
            };
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if line.starts_with("limpet-keeper\0") && line.contains(&wanted) {
                kill(pid.unsigned_abs());
            }
        }
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let parent = hierarchy.path().join(&self.paths.cgroup_parent[1..]);
            for child in std::fs::read_dir(&parent).into_iter().flatten().flatten() {
                let procs = std::fs::read_to_string(child.path().join("cgroup.procs"));
                for pid in procs.unwrap_or_default().lines() {
                    kill(pid.parse().unwrap());
                }
                let gone = || std::fs::remove_dir(child.path()).is_ok();
                if child.path().is_dir() {
                    wait_until(|| gone() || !child.path().exists());
                }
            }
            std::fs::remove_dir(&parent).ok();
        }
    }
}

pub(crate) fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
}

/// Waits for a thing, with a deadline.
pub(crate) fn wait_until(mut done: impl FnMut() -> bool) {
    let start = now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "it did not happen in time");
        std::thread::sleep(Duration::from_millis(2));
    }
}
