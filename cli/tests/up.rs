//! `limpet up` as a person runs it: the demo comes up, a kill is survived, Ctrl-C leaves nothing.
//!
//! Each test has its own network namespace (the demo's web service has a fixed port), data folder
//! and, derived from that, run folder and cgroup.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::process::Signal;
use support::{Running, limpet, stderr, stdout, wait_for};

/// One `limpet up`, and what must be gone after it.
struct Up {
    process: Option<Running>,
    folder: tempfile::TempDir,
}

impl Up {
    fn start(arguments: &[&str]) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test runs real containers: run it as root"
        );
        let mut up = Self { process: None, folder: tempfile::tempdir().unwrap() };
        up.start_again(arguments);
        up
    }

    fn start_again(&mut self, arguments: &[&str]) {
        let out = std::fs::File::create(self.folder.path().join("out")).unwrap();
        // The shell makes the loopback device work and then becomes `limpet up`.
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"]);
        command.arg(env!("CARGO_BIN_EXE_limpet")).arg("up").arg("--data").arg(self.data());
        command.args(arguments).env_remove("LIMPET_DATA").stdin(Stdio::null());
        let child = command.stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap();
        self.process = Some(Running(child));
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn process(&mut self) -> &mut Running {
        self.process.as_mut().unwrap()
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("out")).unwrap_or_default()
    }

    fn wait_said(&mut self, text: &str) {
        wait_for(&format!("{text:?} from limpet up"), || {
            let status = self.process.as_mut().unwrap().0.try_wait().unwrap();
            let said = self.said();
            assert!(status.is_none(), "limpet up ended ({status:?}):\n{said}");
            assert!(!said.contains("Ctrl-C stops it\n"), "it did not come to run:\n{said}");
            said.contains(text).then_some(())
        });
    }

    /// Runs a program in the network namespace of this `limpet up`.
    fn inside(&self, program: &str, arguments: &[&str]) -> Output {
        let pid = self.process.as_ref().unwrap().0.id().to_string();
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &pid, "--", program]).args(arguments);
        command.env("LIMPET_DATA", self.data()).env("HOME", "/nonexistent");
        command.env_remove("LIMPET_SERVER").env_remove("LIMPET_TOKEN").output().unwrap()
    }

    fn limpet(&self, arguments: &[&str]) -> String {
        let output = self.inside(env!("CARGO_BIN_EXE_limpet"), arguments);
        assert!(output.status.success(), "limpet {arguments:?}: {}", stderr(&output));
        stdout(&output)
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.limpet(&[arguments, &["-o", "json"]].concat())).unwrap()
    }

    /// What the agent was told: where its run folder and its cgroup are.
    fn told(&self, key: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.data().join("agent.toml")).ok()?;
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "))?;
        Some(value.trim_matches('"').to_owned())
    }

    fn container_pids(&self) -> Vec<i32> {
        let Some(parent) = self.told("cgroup-parent") else { return Vec::new() };
        let mut pids = Vec::new();
        for hierarchy in ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"] {
            collect_pids(&Path::new(hierarchy).join(&parent[1..]), &mut pids);
        }
        pids
    }

    fn keeper_pids(&self) -> Vec<i32> {
        let Some(run) = self.told("run") else { return Vec::new() };
        let numbers = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<_> = line.split(|b| *b == 0).map(String::from_utf8_lossy).collect();
            words.get(1).is_some_and(|word| word == "keeper")
                && words.iter().any(|word| word.starts_with(&run))
        })
        .collect()
    }
}

fn collect_pids(cgroup: &Path, pids: &mut Vec<i32>) {
    let text = std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    for entry in std::fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            collect_pids(&entry.path(), pids);
        }
    }
}

impl Drop for Up {
    /// A test that failed leaves nothing either.
    fn drop(&mut self) {
        self.process = None;
        for pid in self.keeper_pids().into_iter().chain(self.container_pids()) {
            let pid = rustix::process::Pid::from_raw(pid);
            pid.map(|pid| rustix::process::kill_process(pid, Signal::KILL).ok());
        }
        if let Some(run) = self.told("run").filter(|run| run.starts_with("/run/limpet-up-")) {
            drop(std::fs::remove_dir_all(run));
        }
        if let Some(parent) = self.told("cgroup-parent") {
            let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
            for hierarchy in hierarchies {
                remove_cgroups(&hierarchy.path().join(&parent[1..]));
            }
        }
    }
}

fn remove_cgroups(cgroup: &Path) {
    for entry in std::fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_cgroups(&entry.path());
        }
    }
    let gone = || (!cgroup.exists() || std::fs::remove_dir(cgroup).is_ok()).then_some(());
    if cgroup.exists() {
        wait_for(&format!("{} to be empty", cgroup.display()), gone);
    }
}

#[test]
fn the_demo_comes_up_answers_and_leaves_nothing() {
    let mut up = Up::start(&["--demo"]);
    up.wait_said("Open http://127.0.0.1:8088");
    let said = up.said();
    assert!(said.contains("Ctrl-C stops it"), "{said}");
    assert!(said.contains("demo.web.1"), "{said}");

    let get = "exec 3<>/dev/tcp/127.0.0.1/8088; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
    let page = stdout(&up.inside("bash", &["-c", get]));
    assert!(page.starts_with("HTTP/1.") && page.contains(" 200 "), "{page}");
    let instances = up.json(&["ps", "demo"]);
    assert_eq!(instances.as_array().unwrap().len(), 4);
    wait_for("a line of the clock", || {
        let lines = up.limpet(&["logs", "clock", "--tail", "5"]);
        (lines.contains("demo.clock.1 | ") && lines.contains("demo.clock.2 | ")).then_some(())
    });
    assert!(up.limpet(&["events"]).contains("started"));
    assert_eq!(up.json(&["node", "ls"])[0]["status"], "ready");

    let (run, cgroup) = (up.told("run").unwrap(), up.told("cgroup-parent").unwrap());
    assert!(!up.container_pids().is_empty());
    up.process().signal(Signal::INT);
    let status = up.process().ended();
    assert!(status.success(), "{status}: {}", up.said());
    assert_eq!(up.container_pids(), Vec::<i32>::new(), "containers");
    assert_eq!(up.keeper_pids(), Vec::<i32>::new(), "keeper");
    assert!(!Path::new(&run).exists(), "{run} is left");
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let left = hierarchy.path().join(&cgroup[1..]);
        assert!(!left.exists(), "{} is left", left.display());
    }

    // Started again it finds its state.
    up.start_again(&[]);
    up.wait_said("is up");
    wait_for("the demo to run again", || {
        let instances = up.json(&["ps", "demo"]);
        let running = instances.as_array()?.iter().filter(|one| one["phase"] == "running");
        (running.count() == 3).then_some(())
    });
    up.process().signal(Signal::TERM);
    assert!(up.process().ended().success(), "{}", up.said());
}

#[test]
fn containers_survive_a_kill_and_are_taken_over() {
    let mut up = Up::start(&["--demo"]);
    up.wait_said("Open http://127.0.0.1:8088");
    let before = up.json(&["ps", "demo"]);
    let mut pids = up.container_pids();
    pids.sort_unstable();
    up.process().signal(Signal::KILL);
    up.process().ended();
    let mut left = up.container_pids();
    left.sort_unstable();
    assert_eq!(left, pids, "the containers go on");

    up.start_again(&[]);
    up.wait_said("is up");
    wait_for("the node to tell what it runs", || {
        let now = up.json(&["ps", "demo"]);
        let running = now.as_array()?.iter().filter(|one| one["phase"] == "running").count();
        (running == 3).then_some(())
    });
    let after = up.json(&["ps", "demo"]);
    let attempts = |list: &serde_json::Value| -> Vec<u64> {
        list.as_array().unwrap().iter().filter_map(|one| one["attempt"].as_u64()).collect()
    };
    assert_eq!(attempts(&after), attempts(&before), "nothing was restarted");
    let mut now = up.container_pids();
    now.sort_unstable();
    assert_eq!(now, pids, "the same processes");
    up.process().signal(Signal::INT);
    assert!(up.process().ended().success(), "{}", up.said());
}

#[test]
fn a_port_in_use_is_one_clear_sentence() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--api-listen", "--mqtt-listen"] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = limpet();
        command.arg("up").arg("--data").arg(folder.path());
        for each in ["--api-listen", "--mqtt-listen"] {
            command.arg(each).arg(if each == flag { address.as_str() } else { "127.0.0.1:0" });
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        let said = stderr(&output);
        assert!(said.contains(&address) && said.contains(flag), "{said}");
    }
}

#[test]
fn a_data_folder_in_use_is_one_clear_sentence() {
    let mut up = Up::start(&["--api-listen", "127.0.0.1:0", "--mqtt-listen", "127.0.0.1:0"]);
    up.wait_said("is up");
    let mut command = limpet();
    command.arg("up").arg("--data").arg(up.data());
    let output = command
        .args(["--api-listen", "127.0.0.1:0", "--mqtt-listen", "127.0.0.1:0"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("uses the data folder"), "{}", stderr(&output));
    up.process().signal(Signal::INT);
    assert!(up.process().ended().success(), "{}", up.said());
}
