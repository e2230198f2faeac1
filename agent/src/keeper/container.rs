//! One container in the keeper's table.

use std::os::fd::OwnedFd;
use std::path::Path;

use limpet_protocol::id::SpecHash;
use limpet_protocol::report::Exit;
use limpet_protocol::spec::LogPolicy;
use rustix::fs::{Mode, OFlags};

use super::child::Answer;
use super::log::{Framer, LogWriter, Output};
use super::record::{Record, RecordStatus};
use super::wire::{Blob, Listed, ListedStatus};
use crate::runtime::RuntimePaths;

/// A container, from its request to its removal.
pub(super) struct Container {
    pub id: String,
    pub spec: SpecHash,
    pub started_ms: u64,
    pub policy: LogPolicy,
    /// The signal that ends it, as its service or its image says.
    pub stop_signal: Option<i32>,
    pub log: LogWriter,
    pub streams: [Stream; 2],
    pub terminal: Terminal,
    pub phase: Phase,
    /// When its cgroup is killed, by the keeper's clock, and the signal that comes before.
    pub stop: Option<Stop>,
    /// Whether it is removed as soon as it has ended.
    pub remove: bool,
}

/// One of its outputs.
pub(super) struct Stream {
    pub output: Output,
    pub pipe: Option<OwnedFd>,
    pub framer: Framer,
}

/// Whether its process has a terminal. Its controlling side takes the place of standard output.
#[derive(Debug, Default)]
pub(super) enum Terminal {
    /// It has none, or the controlling side is in its place.
    #[default]
    None,
    /// It is to have one.
    Wanted,
    /// The controlling side comes over this socket before the program begins.
    Coming(OwnedFd),
}

/// How far it has come.
pub(super) enum Phase {
    /// Its plan waits for a free child.
    Waiting(Blob),
    /// A child makes it.
    Making(Job),
    /// It runs.
    Running(Process),
    /// It ended.
    Ended(Exit),
    /// A child waits to remove what is left of it.
    Spent(Reason),
    /// A child removes what is left of it.
    Cleaning(Job, Reason),
}

/// Why a container is cleaned away.
#[derive(Clone)]
pub(super) enum Reason {
    /// It was asked for.
    Removed(Exit),
    /// It could not be made.
    Failed(String),
}

/// A forked child at work.
pub(super) struct Job {
    pub child: u32,
    pub control: OwnedFd,
    pub deadline_ms: u64,
    pub answer: Answer,
}

/// The first process of a container.
pub(super) struct Process {
    pub pid: u32,
    pub start_time: u64,
    /// For one that is no child of this keeper: readable when it ends.
    pub pidfd: Option<OwnedFd>,
}

/// A stop that was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stop {
    pub signal: i32,
    pub kill_at_ms: u64,
    /// Whether the signal was sent.
    pub signalled: bool,
}

impl Container {
    /// A container by its record.
    pub(super) fn new(record: Record, phase: Phase, paths: &RuntimePaths) -> Self {
        let stream = |output| Stream { output, pipe: None, framer: Framer::default() };
        Self {
            log: LogWriter::new(paths.log(&record.id), &record.log),
            id: record.id,
            spec: record.spec,
            started_ms: record.started_ms,
            policy: record.log,
            stop_signal: record.stop_signal,
            streams: [stream(Output::Stdout), stream(Output::Stderr)],
            terminal: Terminal::None,
            phase,
            stop: None,
            remove: false,
        }
    }

    /// Its record as it is now; none once it is being cleaned away.
    pub(super) fn record(&self) -> Option<Record> {
        let status = match &self.phase {
            Phase::Waiting(_) | Phase::Making(_) => RecordStatus::Creating,
            Phase::Running(process) => {
                RecordStatus::Running { pid: process.pid, start_time: process.start_time }
            }
            Phase::Ended(exit) => RecordStatus::Exited(*exit),
            Phase::Spent(_) | Phase::Cleaning(..) => return None,
        };
        Some(Record {
            id: self.id.clone(),
            spec: self.spec,
            started_ms: self.started_ms,
            log: self.policy.clone(),
            status,
            stop_signal: self.stop_signal,
        })
    }

    /// Writes its record down. The table goes on without it: it only serves a later keeper.
    pub(super) fn save(&self, paths: &RuntimePaths) {
        if let Some(record) = self.record()
            && let Err(error) = record.save(&paths.bundle(&self.id))
        {
            super::complain(&format!("write the record of {}: {error}", self.id));
        }
    }

    /// How it is listed in a snapshot.
    pub(super) fn listed(&self) -> Listed {
        let status = match &self.phase {
            Phase::Waiting(_) | Phase::Making(_) => ListedStatus::Creating,
            Phase::Spent(Reason::Failed(_)) | Phase::Cleaning(_, Reason::Failed(_)) => {
                ListedStatus::Creating
            }
            Phase::Running(process) => ListedStatus::Running { pid: process.pid },
            Phase::Ended(exit)
            | Phase::Spent(Reason::Removed(exit))
            | Phase::Cleaning(_, Reason::Removed(exit)) => ListedStatus::Exited(*exit),
        };
        Listed {
            id: self.id.clone(),
            spec: self.spec,
            started_ms: self.started_ms,
            status,
            stop_signal: self.stop_signal,
        }
    }

    /// The job that is at work for it.
    pub(super) const fn job(&self) -> Option<&Job> {
        match &self.phase {
            Phase::Making(job) | Phase::Cleaning(job, _) => Some(job),
            _ => None,
        }
    }

    /// The same, to be changed.
    pub(super) const fn job_mut(&mut self) -> Option<&mut Job> {
        match &mut self.phase {
            Phase::Making(job) | Phase::Cleaning(job, _) => Some(job),
            _ => None,
        }
    }
}

impl Stream {
    /// The pipe's name in the bundle.
    pub(super) const fn name(&self) -> &'static str {
        match self.output {
            Output::Stdout => "stdout",
            Output::Stderr => "stderr",
        }
    }

    /// Opens the pipe of a bundle, and makes it if it is not there.
    pub(super) fn open(&mut self, bundle: &Path) -> std::io::Result<()> {
        let path = bundle.join(self.name());
        let mode = Mode::from_bits_truncate(0o600);
        let kind = rustix::fs::FileType::Fifo;
        match rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        self.pipe = Some(rustix::fs::open(&path, flags, Mode::empty())?);
        Ok(())
    }
}
