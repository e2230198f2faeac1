//! The agent as a child of `limpet up`: the same program once more, in a session of its own.
//!
//! It dies with its parent, also when that is killed, but the keeper and the containers do not:
//! the next `limpet up` on the data folder takes them over. Told to end, it stops the containers
//! first. One that dies by itself is started again.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal};
use serde::Serialize;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::layout::Layout;

/// Tells `limpet agent` that it is a part of `limpet up`: the id of the parent's process.
pub const PARENT_VARIABLE: &str = "LIMPET_UP_PARENT";
/// The program as the kernel has it: also after its file was replaced by a new build.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// The shortest and the longest pause before a dead agent is started again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// Who ran as long as this is no longer held to be in a crash loop.
const SOUND_AFTER: Duration = Duration::from_secs(30);
/// Exit codes of the agent that a second try cannot change (`limpet agent --help`).
const HOPELESS: std::ops::RangeInclusive<i32> = 2..=7;

/// What the agent is told, as its configuration file has it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct AgentFile<'a> {
    /// The broker.
    pub controller: &'a str,
    /// Needed only until the agent has an identity.
    pub join_token: &'a str,
    /// The name to ask for; the host name if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<&'a str>,
    /// Where identity, ledger, images and volumes are.
    pub data: &'a std::path::Path,
    /// Sockets and logs.
    pub run: &'a std::path::Path,
    /// The cgroup above those of all containers.
    pub cgroup_parent: &'a str,
    /// The containers end with `limpet up`.
    pub stop_on_exit: bool,
}

/// Writes the agent's configuration, readable only by its owner: it holds a token.
///
/// # Errors
/// If it cannot be written.
pub fn write_config(layout: &Layout, file: &AgentFile<'_>) -> anyhow::Result<()> {
    let text = toml::to_string(file).context("put the agent's configuration into TOML")?;
    let mut options = std::fs::OpenOptions::new();
    let opened = options.write(true).create(true).truncate(true).mode(0o600);
    let path = &layout.agent_config;
    let written = opened.open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("write {}", path.display()))
}

/// The agent's process, or the pause before the next.
#[derive(Debug)]
pub struct AgentChild {
    layout: Layout,
    log: String,
    child: Option<Child>,
}

impl AgentChild {
    /// An agent that is not started yet; it logs from the given level on.
    #[must_use]
    pub fn new(layout: Layout, log: String) -> Self {
        Self { layout, log, child: None }
    }

    /// Starts the agent, and again whenever it ends. Returns only when that has no point. May be
    /// dropped at any time: the process is kept in `self`.
    pub async fn supervise(&mut self) -> anyhow::Error {
        let mut pause = PAUSES.0;
        loop {
            let started = Instant::now();
            let status = match self.run_once().await {
                Ok(status) => status,
                Err(error) => return error,
            };
            if status.code().is_some_and(|code| HOPELESS.contains(&code)) {
                return anyhow::anyhow!("the agent cannot run here ({status}); it said why above");
            }
            if started.elapsed() >= SOUND_AFTER {
                pause = PAUSES.0;
            }
            crate::complain(&format!("the agent ended ({status}); it is started again"));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    async fn run_once(&mut self) -> anyhow::Result<ExitStatus> {
        let child = match &mut self.child {
            Some(child) => child,
            none => none.insert(spawn(&self.layout, &self.log)?),
        };
        let status = child.wait().await.context("wait for the agent")?;
        self.child = None;
        Ok(status)
    }

    /// Tells the agent to stop its containers and to end.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends the agent at once; its containers go on.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().and_then(Child::id);
        let pid = id.and_then(|id| Pid::from_raw(id.cast_signed()));
        // Whoever is gone needs no signal, so what the kernel answers does not matter.
        pid.map(|pid| rustix::process::kill_process(pid, signal).ok());
    }

    /// Waits until the agent has ended; none if it was not running.
    pub async fn ended(&mut self) -> Option<ExitStatus> {
        match &mut self.child {
            Some(child) => child.wait().await.ok(),
            None => None,
        }
    }
}

fn spawn(layout: &Layout, log: &str) -> anyhow::Result<Child> {
    let mut command = Command::new(THIS_PROGRAM);
    command.arg0("limpet").arg("agent").arg("--config").arg(&layout.agent_config);
    // What is meant for an agent of its own must not reach this one.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LIMPET_AGENT_") {
            command.env_remove(name);
        }
    }
    command.env("LIMPET_LOG", plain_level(log));
    command.env(PARENT_VARIABLE, std::process::id().to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    command.spawn().context("start the agent")
}

/// The level of a filter such as `warn,mqtt5=error`: the agent knows nothing finer.
fn plain_level(filter: &str) -> &str {
    filter.split(',').find(|part| !part.contains('=')).unwrap_or("warn")
}

/// In the agent's process, before anything else: leaves the terminal's session, so that Ctrl-C
/// reaches only the parent, and dies when the parent dies.
///
/// # Errors
/// If the parent is dead already, or the kernel refuses.
pub fn become_child(parent: &str) -> anyhow::Result<()> {
    rustix::process::setsid().context("leave the session of the terminal")?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .context("ask for the parent's death signal")?;
    let now = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().to_string());
    anyhow::ensure!(now.as_deref() == Some(parent), "`limpet up` has ended meanwhile");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_is_told_a_plain_level() {
        let cases = [("debug", "debug"), ("a=debug,info", "info"), ("a=debug", "warn")];
        for (filter, level) in cases {
            assert_eq!(plain_level(filter), level, "{filter}");
        }
    }
}
