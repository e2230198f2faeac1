//! Programs of a test: started with their output kept, and ended with the test, whatever happens.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a test waits for anything before it fails: generous, since the machine is shared.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something is there, asking again and again; fails the test after [`PATIENCE`].
///
/// # Panics
/// When it does not come. The message says what was waited for.
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A port of the loopback device that nobody listens on now.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A program of this workspace: from the folder that `LIMPET_PROGRAMS` names, else built with the
/// same profile as the test.
///
/// # Panics
/// When it is not there: `tests/run` builds the programs first.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let folder = std::env::var_os("LIMPET_PROGRAMS").map_or_else(own_folder, PathBuf::from);
    let path = folder.join(name);
    assert!(
        path.exists(),
        "{} is not built: cargo build -p limpet-cli -p limpet-agent",
        path.display()
    );
    path
}

fn own_folder() -> PathBuf {
    let mut folder = std::env::current_exe().unwrap();
    folder.pop();
    if folder.ends_with("deps") {
        folder.pop();
    }
    folder
}

/// A running program whose output goes to a file.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts a program with its output appended to `folder/name.log`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(name: &str, folder: &Path, command: &mut Command) -> Self {
        let log = folder.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        Self { name: name.to_owned(), child, log }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far.
    #[must_use]
    pub fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a child has a pid");
        // It may just have ended by itself; whoever waits for it sees that.
        let _ = kill_process(pid, signal);
    }

    /// Kills it as a power cut would.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }

    /// Asks it to end, waits, and gives its exit code.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for its end and gives its exit code.
    ///
    /// # Panics
    /// When it does not end.
    pub fn wait(&mut self) -> Option<i32> {
        let name = self.name.clone();
        wait_for(&format!("{name} to end"), || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal(Signal::KILL);
            drop(self.child.wait());
        }
        if std::thread::panicking() {
            eprintln!("---- {} wrote:\n{}", self.name, self.output());
        }
    }
}
