//! A controller of a test's own, and the command run against it. Everything is gone with the test.
#![allow(dead_code, reason = "each test program uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::disallowed_methods, reason = "tests read the clock for their deadlines")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take before a test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The command, with nothing of the caller's environment that could say where a controller is.
#[must_use]
pub(crate) fn limpet() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_limpet"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("LIMPET_") || text.starts_with("COMPOSE_") || text.starts_with("XDG_") {
            command.env_remove(&name);
        }
    }
    command.env("HOME", "/nonexistent").env("LIMPET_DATA", "/nonexistent").stdin(Stdio::null());
    command
}

/// What the command wrote to standard output.
#[must_use]
pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What the command wrote to standard error.
#[must_use]
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Asks again and again until there is an answer.
///
/// # Panics
/// When there is none in time.
pub(crate) fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(started.elapsed() < DEADLINE, "waited {DEADLINE:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A process that ends with the test.
#[derive(Debug)]
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// Sends a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.0.id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> std::process::ExitStatus {
        wait_for("the process to end", || self.0.try_wait().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A controller on free ports with a data folder of its own.
#[derive(Debug)]
pub(crate) struct Controller {
    process: Running,
    folder: tempfile::TempDir,
}

impl Controller {
    /// Starts it and waits until it answers.
    #[must_use]
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = limpet();
        command.args(["controller", "--api-listen", "127.0.0.1:0", "--mqtt-listen", "127.0.0.1:0"]);
        command.arg("--data").arg(folder.path().join("data"));
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let controller = Self { process: Running(child), folder };
        wait_for("the controller to answer", || {
            controller.limpet(&["version"]).status.success().then_some(())
        });
        controller
    }

    /// Its data folder.
    #[must_use]
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A folder for files of the test.
    #[must_use]
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file.
    #[must_use]
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The command, set to ask this controller.
    #[must_use]
    pub(crate) fn command(&self) -> Command {
        let mut command = limpet();
        command.env("LIMPET_DATA", self.data());
        command
    }

    /// Runs the command against it.
    #[must_use]
    pub(crate) fn limpet(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().unwrap()
    }

    /// Runs the command against it and gives what it wrote.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.limpet(arguments);
        assert!(output.status.success(), "limpet {arguments:?}: {}", stderr(&output));
        stdout(&output)
    }

    /// Runs the command against it; it must fail with the code, and gives what it said.
    pub(crate) fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.limpet(arguments);
        assert_eq!(output.status.code(), Some(code), "limpet {arguments:?}: {}", stderr(&output));
        stderr(&output)
    }
}
