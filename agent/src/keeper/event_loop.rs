//! The keeper's one loop: waits for anything, does a bounded piece of work for each, never blocks.
//!
//! In: connections and requests of the agent, ended children, answers of forked children, output
//! of containers, time. Out: events to the agent, files in the run folder. What each of them makes
//! of the table is in the files beside this one.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use super::agent::Agent;
use super::cgroup::Hierarchies;
use super::container::Container;
use super::exec::Exec;
use super::facts::NodeFacts;
use super::{complain, socket, sys};
use crate::runtime::RuntimePaths;

/// Events taken in one turn: who is not in it is in the next.
const EVENTS_PER_TURN: usize = 64;

/// The keeper and everything it keeps.
pub(super) struct Keeper {
    pub paths: RuntimePaths,
    pub hierarchies: Hierarchies,
    pub facts: NodeFacts,
    /// Held for life: one keeper a run folder.
    pub lock: OwnedFd,
    pub listener: OwnedFd,
    signals: OwnedFd,
    epoll: OwnedFd,
    pub agent: Option<Agent>,
    /// The table; a container keeps its place as long as it is there.
    pub containers: Vec<Option<Box<Container>>>,
    /// Places whose container waits for a free child.
    pub queue: VecDeque<usize>,
    pub jobs: usize,
    /// The execs; one keeps its slot as long as it is there.
    pub execs: Vec<Option<Exec>>,
    /// Slots whose exec waits for a free child.
    pub exec_queue: VecDeque<usize>,
    /// Set when everything is to be removed and the keeper is to end.
    pub ending: bool,
    pub upgrade_to: Option<std::path::PathBuf>,
    pub read_buffer: Vec<u8>,
    pub line_buffer: Vec<u8>,
    started: Instant,
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Listener,
    Agent,
    Children,
    /// The control of the child that works for the container at a place.
    Control(usize),
    /// The control of the exec in a slot.
    Exec(usize),
    /// The first process of an adopted container.
    Process(usize),
    /// An output of a container: its place, and which.
    Output(usize, usize),
}

impl Source {
    const fn token(self) -> u64 {
        match self {
            Self::Listener => 0,
            Self::Agent => 1,
            Self::Children => 2,
            Self::Control(place) => 3 | (place as u64) << 4,
            Self::Process(place) => 4 | (place as u64) << 4,
            Self::Exec(slot) => 6 | (slot as u64) << 4,
            Self::Output(place, which) => 5 | (which as u64) << 3 | (place as u64) << 4,
        }
    }

    fn from_token(token: u64) -> Option<Self> {
        let place = usize::try_from(token >> 4).ok()?;
        Some(match token & 7 {
            0 => Self::Listener,
            1 => Self::Agent,
            2 => Self::Children,
            3 => Self::Control(place),
            4 => Self::Process(place),
            6 => Self::Exec(place),
            5 => Self::Output(place, usize::from(token >> 3 & 1 == 1)),
            _ => return None,
        })
    }
}

impl Keeper {
    /// A keeper with an empty table.
    pub(super) fn new(paths: RuntimePaths, lock: OwnedFd, listener: OwnedFd) -> io::Result<Self> {
        let hierarchies = Hierarchies::find()?;
        let keeper = Self {
            facts: NodeFacts::read(&hierarchies),
            paths,
            hierarchies,
            lock,
            listener,
            signals: sys::child_signals()?,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            agent: None,
            containers: Vec::new(),
            queue: VecDeque::new(),
            jobs: 0,
            execs: Vec::new(),
            exec_queue: VecDeque::new(),
            ending: false,
            upgrade_to: None,
            read_buffer: vec![0; super::output::READ_BYTES],
            line_buffer: Vec::new(),
            started: now(),
        };
        keeper.watch(&keeper.listener, Source::Listener)?;
        keeper.watch(&keeper.signals, Source::Children)?;
        Ok(keeper)
    }

    /// Watches a descriptor until it is closed.
    pub(super) fn watch(&self, fd: impl AsFd, source: Source) -> io::Result<()> {
        let data = epoll::EventData::new_u64(source.token());
        Ok(epoll::add(&self.epoll, fd, data, epoll::EventFlags::IN)?)
    }

    /// Also says when the agent's socket has room, or no longer.
    pub(super) fn watch_room(&self, socket: &OwnedFd, wanted: bool) -> io::Result<()> {
        let data = epoll::EventData::new_u64(Source::Agent.token());
        let flags = if wanted {
            epoll::EventFlags::IN | epoll::EventFlags::OUT
        } else {
            epoll::EventFlags::IN
        };
        Ok(epoll::modify(&self.epoll, socket, data, flags)?)
    }

    /// Takes the notice that a child ended.
    pub(super) fn clear_child_signal(&self) {
        /// The size of one notice (signalfd(2)).
        const NOTICE_BYTES: usize = 128;
        let mut notices = [0; 4 * NOTICE_BYTES];
        while rustix::io::read(&self.signals, &mut notices).is_ok_and(|count| count > 0) {}
    }

    /// Puts the notice back: there is more to take.
    pub(super) fn raise_child_signal(&self) {
        let own = rustix::process::getpid();
        if let Err(error) = rustix::process::kill_process(own, rustix::process::Signal::CHILD) {
            complain(&format!("signal itself: {error}"));
        }
    }

    /// Time since this keeper started.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(now().duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }

    /// Runs until everything is removed and the keeper was told to end.
    pub(super) fn run(mut self) -> ExitCode {
        // Children may have ended while no signal could tell.
        self.reap();
        let mut events = Vec::with_capacity(EVENTS_PER_TURN);
        loop {
            self.start_jobs();
            self.start_execs();
            self.upgrade_if_asked();
            if self.ending && self.containers.iter().all(Option::is_none) {
                return self.end();
            }
            let timeout = self.next_deadline_ms().map(|at| {
                let left = at.saturating_sub(self.now_ms());
                let (seconds, rest) = (left / 1000, left % 1000);
                Timespec {
                    tv_sec: i64::try_from(seconds).unwrap_or(i64::MAX),
                    // A millisecond more, so that the deadline has passed when it wakes.
                    tv_nsec: i64::try_from((rest + 1).min(999) * 1_000_000).unwrap_or(0),
                }
            });
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    complain(&format!("wait for events: {error}"));
                    return ExitCode::FAILURE;
                }
            }
            let mut sources: Vec<Source> =
                events.iter().filter_map(|event| Source::from_token(event.data.u64())).collect();
            // Requests and ends first: no output of a container is as urgent.
            sources.sort_unstable();
            for source in sources {
                self.handle(source);
            }
            self.keep_deadlines();
        }
    }

    fn handle(&mut self, source: Source) {
        match source {
            Source::Listener => self.accept_agent(),
            Source::Agent => self.serve_agent(),
            Source::Children => self.reap(),
            Source::Control(place) => self.hear_job(place),
            Source::Exec(slot) => self.hear_exec(slot),
            Source::Process(place) => self.adopted_ended(place),
            Source::Output(place, which) => self.read_output(place, which),
        }
    }

    fn end(self) -> ExitCode {
        // Whoever looks must not find a socket that nobody answers.
        drop(std::fs::remove_file(self.paths.run.join(super::wire::SOCKET_NAME)));
        let parent = self.paths.cgroup_parent.clone();
        if let Err(error) = self.hierarchies.remove_empty(&parent) {
            complain(&format!("remove cgroup {parent}: {error}"));
        }
        ExitCode::SUCCESS
    }

    fn accept_agent(&mut self) {
        match socket::accept(&self.listener) {
            Ok(Some(socket)) => self.greet(socket),
            Ok(None) => {}
            Err(error) => complain(&format!("accept the agent's connection: {error}")),
        }
    }

    /// The container at a place.
    pub(super) fn container(&mut self, place: usize) -> Option<&mut Container> {
        self.containers.get_mut(place)?.as_deref_mut()
    }

    /// The place of a container.
    pub(super) fn place_of(&self, id: &str) -> Option<usize> {
        self.containers.iter().position(|entry| entry.as_ref().is_some_and(|c| c.id == id))
    }

    /// Puts a container into a free place.
    pub(super) fn put(&mut self, container: Container) -> usize {
        let container = Some(Box::new(container));
        match self.containers.iter().position(Option::is_none) {
            Some(place) => {
                self.containers[place] = container;
                place
            }
            None => {
                self.containers.push(container);
                self.containers.len() - 1
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the keeper's loop reads the clock here alone")]
fn now() -> Instant {
    Instant::now()
}

/// The node's clock, in milliseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "the keeper's loop reads the clock here alone")]
pub(super) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_comes_back_from_its_token() {
        for source in [
            Source::Listener,
            Source::Agent,
            Source::Children,
            Source::Control(0),
            Source::Control(499),
            Source::Exec(127),
            Source::Process(7),
            Source::Output(3, 0),
            Source::Output(3, 1),
        ] {
            assert_eq!(Source::from_token(source.token()), Some(source));
        }
        assert!(Source::Children < Source::Control(0) && Source::Process(9) < Source::Output(0, 0));
    }
}
