//! Upgrade in place: the keeper executes another program and stays the parent of its containers.
//!
//! In: the program's path. Out: the new program with the same process id, the same children and
//! the same descriptors; what it cannot read from the records is in the handover file.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use limpet_protocol::codec;
use rustix::io::FdFlags;
use serde::{Deserialize, Serialize};

use super::container::Stop;
use super::event_loop::Keeper;
use super::wire::{Event, MAX_MESSAGE_BYTES};
use super::{seal, start, sys};
use crate::runtime::RuntimePaths;

/// The file's name in the run folder.
const NAME: &str = "keeper.handover";

/// What the next program takes over.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Handover {
    pub lock: RawFd,
    pub listener: RawFd,
    agent: Option<RawFd>,
    ending: bool,
    containers: Vec<Handed>,
}

/// What it takes over of one container.
#[derive(Debug, Serialize, Deserialize)]
struct Handed {
    id: String,
    outputs: [Option<RawFd>; 2],
    remove: bool,
    /// Signal, time left in milliseconds, whether the signal was sent.
    stop: Option<(i32, u64, bool)>,
}

impl Handover {
    /// Reads the file that the last program left, and removes it.
    pub(super) fn take(paths: &RuntimePaths) -> io::Result<Self> {
        let path = paths.run.join(NAME);
        let bytes = std::fs::read(&path)?;
        std::fs::remove_file(&path)?;
        codec::decode_within(&bytes, MAX_MESSAGE_BYTES).map_err(io::Error::other)
    }
}

impl Keeper {
    /// Takes over what the records do not tell.
    pub(super) fn take_over(&mut self, handover: Handover) {
        self.ending = handover.ending;
        let now_ms = self.now_ms();
        for handed in handover.containers {
            let outputs = handed.outputs.map(|fd| fd.and_then(|fd| sys::adopt_fd(fd).ok()));
            let Some(place) = self.place_of(&handed.id) else { continue };
            let Some(container) = self.container(place) else { continue };
            for (stream, pipe) in container.streams.iter_mut().zip(outputs) {
                stream.pipe = pipe;
            }
            container.remove = handed.remove;
            container.stop = handed.stop.map(|(signal, left_ms, signalled)| Stop {
                signal,
                kill_at_ms: now_ms.saturating_add(left_ms),
                signalled,
            });
            self.watch_container(place);
        }
        if let Some(socket) = handover.agent.and_then(|fd| sys::adopt_fd(fd).ok()) {
            self.greet(socket);
        }
    }

    /// Replaces this program if that was asked for and nothing is half done.
    pub(super) fn upgrade_if_asked(&mut self) {
        if self.jobs > 0 || !self.queue.is_empty() {
            return;
        }
        let Some(exe) = self.upgrade_to.take() else { return };
        // The next program does not know them; its agent is told now.
        self.abandon_execs();
        for place in 0..self.containers.len() {
            self.flush_partial_lines(place);
        }
        let error = self.replace_by(&exe);
        if let Err(error) = self.set_inherited(false) {
            super::complain(&format!("take descriptors back: {error}"));
        }
        let reason = format!("execute {} in place: {error}", exe.display());
        super::complain(&reason);
        self.tell(&Event::Refused { reason });
    }

    /// Returns only the reason why not.
    fn replace_by(&self, exe: &Path) -> io::Error {
        let prepared = || -> io::Result<OwnedFd> {
            let program = seal::sealed(exe)?;
            let bytes = codec::encode_within(&self.handover(), MAX_MESSAGE_BYTES)
                .map_err(io::Error::other)?;
            std::fs::write(self.paths.run.join(NAME), bytes)?;
            self.set_inherited(true)?;
            Ok(program)
        };
        match prepared() {
            Ok(program) => {
                let arguments = start::arguments(&self.paths, &["--sealed", "--handover"]);
                let arguments: Vec<_> = arguments.iter().map(|text| text.as_os_str()).collect();
                sys::exec_fd(program.as_fd(), &arguments)
            }
            Err(error) => error,
        }
    }

    fn handover(&self) -> Handover {
        let now_ms = self.now_ms();
        let containers = self.containers.iter().flatten().map(|container| Handed {
            id: container.id.clone(),
            outputs: [0, 1].map(|which: usize| {
                container.streams[which].pipe.as_ref().map(|pipe| pipe.as_raw_fd())
            }),
            remove: container.remove,
            stop: container
                .stop
                .map(|stop| (stop.signal, stop.kill_at_ms.saturating_sub(now_ms), stop.signalled)),
        });
        Handover {
            lock: self.lock.as_raw_fd(),
            listener: self.listener.as_raw_fd(),
            agent: self.agent.as_ref().map(|agent| agent.socket.as_raw_fd()),
            ending: self.ending,
            containers: containers.collect(),
        }
    }

    /// Lets the descriptors that are handed over survive the next exec, or no longer.
    fn set_inherited(&self, inherited: bool) -> io::Result<()> {
        let flags = if inherited { FdFlags::empty() } else { FdFlags::CLOEXEC };
        let pipes = self.containers.iter().flatten().flat_map(|c| &c.streams);
        let all = pipes
            .filter_map(|stream| stream.pipe.as_ref())
            .chain(self.agent.as_ref().map(|agent| &agent.socket))
            .chain([&self.lock, &self.listener]);
        for fd in all {
            let fd: BorrowedFd<'_> = fd.as_fd();
            rustix::io::fcntl_setfd(fd, flags)?;
        }
        Ok(())
    }
}
