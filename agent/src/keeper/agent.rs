//! The keeper's side of the agent's connection: requests in, events out.
//!
//! There is one agent. A new connection replaces the old one and begins with a snapshot, so an
//! agent that was too slow to take its events loses the connection and nothing else.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use limpet_protocol::codec;
use limpet_protocol::limits::MAX_INSTANCES_PER_NODE;
use limpet_protocol::report::Exit;

use super::container::{Container, Phase, Reason, Stop, Terminal};
use super::event_loop::{Keeper, Source};
use super::log::remove_log;
use super::record::{Record, RecordStatus};
use super::socket::{self, Received};
use super::wire::{Create, Event, MAX_MESSAGE_BYTES, Request};
use super::{complain, sys};
use crate::signal::SIGTERM;

/// Events that wait for an agent that does not read: two for each container.
const MAX_WAITING_EVENTS: usize = 2 * MAX_INSTANCES_PER_NODE;
/// Requests taken in one turn.
const REQUESTS_PER_TURN: usize = 32;
/// Signal 9 needs no grace.
const SIGKILL: i32 = 9;

/// The connected agent.
pub(super) struct Agent {
    pub socket: OwnedFd,
    waiting: VecDeque<Vec<u8>>,
}

impl Keeper {
    /// Takes a new connection and tells it everything.
    pub(super) fn greet(&mut self, socket: OwnedFd) {
        if let Err(error) = self.watch(&socket, Source::Agent) {
            complain(&format!("watch the agent's connection: {error}"));
            return;
        }
        self.lose_agent();
        self.agent = Some(Agent { socket, waiting: VecDeque::new() });
        let containers = self.containers.iter().flatten().map(|c| c.listed()).collect();
        self.tell(&Event::Snapshot { facts: self.facts.clone(), containers });
    }

    /// Sends an event, or keeps it until there is room.
    pub(super) fn tell(&mut self, event: &Event) {
        let Some(agent) = &mut self.agent else { return };
        let message = match codec::encode_within(event, MAX_MESSAGE_BYTES) {
            Ok(message) => message,
            Err(error) => return complain(&format!("encode an event: {error}")),
        };
        if agent.waiting.is_empty() {
            match socket::transmit(&agent.socket, &message) {
                Ok(true) => return,
                Ok(false) => {}
                Err(_) => return self.lose_agent(),
            }
        }
        let was_empty = agent.waiting.is_empty();
        agent.waiting.push_back(message);
        if agent.waiting.len() > MAX_WAITING_EVENTS {
            complain("the agent does not take its events; it has to connect again");
            self.lose_agent();
        } else if was_empty {
            self.watch_agent_room(true);
        }
    }

    fn watch_agent_room(&self, wanted: bool) {
        if let Some(agent) = &self.agent
            && let Err(error) = self.watch_room(&agent.socket, wanted)
        {
            complain(&format!("watch the agent's connection: {error}"));
        }
    }

    /// Takes requests and sends what waits.
    pub(super) fn serve_agent(&mut self) {
        for _ in 0..REQUESTS_PER_TURN {
            let Some(agent) = &self.agent else { return };
            match socket::receive(&agent.socket) {
                Ok(Received::Message(message, fds)) => self.take(&message, fds),
                Ok(Received::Nothing) => break,
                Ok(Received::Closed) => return self.lose_agent(),
                Err(error) => {
                    complain(&format!("read from the agent: {error}"));
                    return self.lose_agent();
                }
            }
        }
        let Some(agent) = &mut self.agent else { return };
        if agent.waiting.is_empty() {
            return;
        }
        while let Some(message) = agent.waiting.front() {
            match socket::transmit(&agent.socket, message) {
                Ok(true) => drop(agent.waiting.pop_front()),
                Ok(false) => return,
                Err(_) => return self.lose_agent(),
            }
        }
        self.watch_agent_room(false);
    }

    /// The connection is over, and the execs with it: nobody reads what they write.
    fn lose_agent(&mut self) {
        self.agent = None;
        self.abandon_execs();
    }

    fn take(&mut self, message: &[u8], descriptors: Vec<OwnedFd>) {
        match codec::decode_within::<Request>(message, MAX_MESSAGE_BYTES) {
            Ok(Request::Create(create)) => self.create(*create),
            Ok(Request::Stop { id, signal, grace_ms }) => self.stop(&id, signal, grace_ms),
            Ok(Request::Remove { id }) => self.remove(id),
            Ok(Request::Exec(exec)) => self.exec(*exec, descriptors),
            Ok(Request::KillExec { exec, signal }) => self.kill_exec(exec, signal),
            Ok(Request::Upgrade { exe }) => self.upgrade_to = Some(exe),
            Ok(Request::Shutdown { grace_ms }) => self.shut_down(grace_ms),
            Err(error) => {
                let reason = format!("a request that is none: {error}");
                self.tell(&Event::Refused { reason });
            }
        }
    }

    fn create(&mut self, create: Create) {
        let Create { id, spec, log, stop_signal, terminal, plan } = create;
        let refusal = if self.ending {
            Some("the keeper is ending".to_owned())
        } else if !is_file_name(&id) {
            Some("its name is no name for a file".to_owned())
        } else if self.place_of(&id).is_some() {
            Some("a container of this name is there; every attempt needs its own".to_owned())
        } else if self.containers.iter().flatten().count() >= MAX_INSTANCES_PER_NODE {
            Some(format!("this node has {MAX_INSTANCES_PER_NODE} containers, the most it may have"))
        } else {
            None
        };
        if let Some(reason) = refusal {
            return self.tell(&Event::CreateFailed { id, reason });
        }
        let started_ms = super::event_loop::wall_ms();
        let status = RecordStatus::Creating;
        let record = Record { id, spec, started_ms, log, status, stop_signal };
        let mut container = Container::new(record, Phase::Waiting(plan), &self.paths);
        if terminal {
            container.terminal = Terminal::Wanted;
        }
        let place = self.put(container);
        self.queue.push_back(place);
    }

    fn stop(&mut self, id: &str, signal: i32, grace_ms: u64) {
        let Some(place) = self.place_of(id) else {
            // True, and it keeps nobody waiting for an end that will not come.
            return self.tell(&Event::Removed { id: id.to_owned() });
        };
        let grace_ms = if signal == SIGKILL { 0 } else { grace_ms };
        let kill_at_ms = self.now_ms().saturating_add(grace_ms);
        let Some(container) = self.container(place) else { return };
        if let Phase::Ended(exit) = container.phase {
            let id = container.id.clone();
            return self.tell(&Event::Exited { id, exit });
        }
        // Of two stops the sooner end counts.
        let kill_at_ms = container.stop.map_or(kill_at_ms, |stop| stop.kill_at_ms.min(kill_at_ms));
        container.stop = Some(Stop { signal, kill_at_ms, signalled: false });
        self.signal_stop(place);
    }

    /// Sends the stop signal if the container runs and it was not sent yet.
    pub(super) fn signal_stop(&mut self, place: usize) {
        let Some(container) = self.container(place) else { return };
        let (Phase::Running(process), Some(stop)) = (&container.phase, &mut container.stop) else {
            return;
        };
        if !stop.signalled {
            stop.signalled = true;
            process.send(stop.signal);
        }
    }

    fn remove(&mut self, id: String) {
        match self.place_of(&id) {
            Some(place) => self.remove_at(place),
            None => {
                // The log of one that could not be made is all that was left of it.
                if is_file_name(&id) {
                    remove_log(&self.paths.log(&id));
                }
                self.tell(&Event::Removed { id });
            }
        }
    }

    /// Removes a container, killing it if it runs.
    pub(super) fn remove_at(&mut self, place: usize) {
        let now_ms = self.now_ms();
        let Some(container) = self.container(place) else { return };
        container.remove = true;
        match &container.phase {
            Phase::Ended(exit) => {
                container.phase = Phase::Spent(Reason::Removed(*exit));
                self.queue.push_back(place);
            }
            Phase::Waiting(_) | Phase::Making(_) | Phase::Running(_) => {
                container.stop =
                    Some(Stop { signal: SIGKILL, kill_at_ms: now_ms, signalled: true });
            }
            Phase::Spent(_) | Phase::Cleaning(..) => {}
        }
    }

    fn shut_down(&mut self, grace_ms: u64) {
        self.ending = true;
        for place in 0..self.containers.len() {
            let now_ms = self.now_ms();
            let Some(container) = self.container(place) else { continue };
            match container.phase {
                Phase::Running(_) | Phase::Making(_) | Phase::Waiting(_) => {
                    container.remove = true;
                    let kill_at_ms = now_ms.saturating_add(grace_ms);
                    let signal = container.stop_signal.unwrap_or(SIGTERM);
                    container.stop = Some(Stop { signal, kill_at_ms, signalled: false });
                    self.signal_stop(place);
                }
                _ => self.remove_at(place),
            }
        }
    }
}

impl super::container::Process {
    /// Sends it a signal; one that is gone needs none.
    pub(super) fn send(&self, number: i32) {
        let Some(signal) = sys::signal(number) else { return };
        let sent = match &self.pidfd {
            Some(pidfd) => rustix::process::pidfd_send_signal(pidfd, signal),
            // Its process id cannot be another's: it is a child that was not waited for.
            None => match rustix::process::Pid::from_raw(self.pid.cast_signed()) {
                Some(pid) => rustix::process::kill_process(pid, signal),
                None => Ok(()),
            },
        };
        sent.ok();
    }
}

/// Exit of a container whose end nobody saw.
pub(super) const LOST: Exit = Exit { code: None, out_of_memory: false };

fn is_file_name(id: &str) -> bool {
    const MAX_BYTES: usize = 200;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    !id.is_empty() && id.len() <= MAX_BYTES && !id.starts_with('.') && id.chars().all(legal)
}
