//! Execs: further processes in containers, from their request to their end.
//!
//! In: requests of the agent with the descriptors that the processes get, what forked children say
//! on their controls, ended processes. Out: one end for every request. The keeper passes the streams
//! on and closes them: it neither reads nor writes them, so no exec can stall it or fill it.

use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair, sockopt};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::child;
use super::container::Phase;
use super::event_loop::{Keeper, Source};
use super::tenant::{self, CREATED, NOT_EXECUTED, PID_FILE};
use super::wire::{self, Event};
use super::{complain, socket, sys};
use crate::runtime::exec::{ExecOutcome, MAX_EXECS, MAX_EXECS_PER_CONTAINER};
use crate::signal::SIGKILL;

/// Children at work for execs at the same time, beside those that make and remove containers.
const MAX_STARTING: usize = 4;
/// Longest time until the command is executed: what takes longer is stuck.
const START_TIMEOUT_MS: u64 = 20_000;
/// Bytes of one packet on a control.
const PACKET_BYTES: usize = 1024;
/// Packets taken from one control in a turn.
const PACKETS_PER_TURN: usize = 16;
/// Most details that are kept: the first ones name the cause.
const MAX_DETAILS: usize = 3;

/// A further process in a container.
pub(super) struct Exec {
    /// The agent's number for it.
    id: u64,
    container: String,
    stage: Stage,
}

/// How far it has come.
enum Stage {
    /// Its request waits for a free child.
    Waiting(Box<wire::Exec>, Vec<OwnedFd>),
    /// A child starts it.
    Starting(Starting),
    /// It runs, with this process id.
    Running(u32),
}

struct Starting {
    child: u32,
    control: OwnedFd,
    deadline_ms: u64,
    answer: Answer,
    /// A signal that came before it was known to run.
    signal: Option<i32>,
}

/// What the child and the process have said so far.
#[derive(Default)]
struct Answer {
    /// The process, which is about to execute the command.
    created: Option<u32>,
    /// How the process ended while the child was still at work.
    ended: Option<Option<i32>>,
    not_executed: Option<(i32, String)>,
    /// The child's work is done, or why it failed.
    result: Option<Result<(), String>>,
    details: Vec<String>,
    closed: bool,
}

impl Answer {
    fn hear(&mut self, packet: &str, pid: Option<u32>) {
        let packet = packet.trim_end();
        let (word, rest) = packet.split_once(' ').unwrap_or((packet, ""));
        match word {
            CREATED => self.created = pid,
            NOT_EXECUTED => {
                let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
                self.not_executed = code.parse().ok().map(|code| (code, reason.to_owned()));
            }
            "done" => self.result = Some(Ok(())),
            "failed" => self.result = Some(Err(rest.to_owned())),
            "detail" if self.details.len() < MAX_DETAILS => self.details.push(rest.to_owned()),
            _ => {}
        }
    }

    /// What has become of it; none while that is open.
    fn verdict(&self) -> Option<Result<u32, ExecOutcome>> {
        if let Some((code, reason)) = &self.not_executed {
            return Some(Err(ExecOutcome::NotExecuted { code: *code, reason: reason.clone() }));
        }
        let refused = |reason: &str| {
            let mut reason = reason.to_owned();
            for detail in
                self.details.iter().filter(|detail| !reason.contains(*detail)).collect::<Vec<_>>()
            {
                reason.push_str("; ");
                reason.push_str(detail);
            }
            Some(Err(ExecOutcome::Refused { reason: shortened(reason) }))
        };
        match (&self.result, self.created) {
            (Some(Ok(())), Some(pid)) => Some(Ok(pid)),
            (Some(Err(reason)), _) => refused(reason),
            (Some(Ok(())), None) => refused("nobody said which process it is"),
            (None, _) if self.closed => refused("the process that starts it ended early"),
            (None, _) => None,
        }
    }
}

fn shortened(mut reason: String) -> String {
    while reason.len() > limpet_protocol::limits::MAX_REASON_BYTES {
        reason.pop();
    }
    reason
}

impl Keeper {
    /// Takes a request, or says why not.
    pub(super) fn exec(&mut self, request: wire::Exec, streams: Vec<OwnedFd>) {
        let id = request.exec;
        if let Some(reason) = self.objection(&request, streams.len()) {
            return self
                .tell(&Event::ExecEnded { exec: id, outcome: ExecOutcome::Refused { reason } });
        }
        let container = request.container.clone();
        let exec = Exec { id, container, stage: Stage::Waiting(Box::new(request), streams) };
        let slot = match self.execs.iter().position(Option::is_none) {
            Some(slot) => slot,
            None => {
                self.execs.push(None);
                self.execs.len() - 1
            }
        };
        self.execs[slot] = Some(exec);
        self.exec_queue.push_back(slot);
    }

    fn objection(&self, request: &wire::Exec, streams: usize) -> Option<String> {
        let id = &request.container;
        let in_it = self.execs.iter().flatten().filter(|exec| exec.container == *id).count();
        let expected = if request.terminal.is_some() { 1 } else { 3 };
        let bad_name = |name: &str| name.is_empty() || name.contains(['=', '\0']);
        let bad =
            request.environment.iter().any(|(name, value)| bad_name(name) || value.contains('\0'));
        if self.init_of(id).is_none() {
            Some(format!("{id} does not run"))
        } else if self.execs.iter().flatten().count() >= MAX_EXECS {
            Some(format!("{MAX_EXECS} execs run on this node, the most it may have; try again"))
        } else if in_it >= MAX_EXECS_PER_CONTAINER {
            Some(format!(
                "{MAX_EXECS_PER_CONTAINER} execs run in {id}, the most it may have; try again"
            ))
        } else if streams != expected || request.command.is_empty() {
            Some("an exec needs a command and its streams".to_owned())
        } else if bad {
            Some("the name of an environment variable is not empty and has no `=` in it".to_owned())
        } else {
            None
        }
    }

    /// The first process of a container that runs.
    fn init_of(&self, id: &str) -> Option<u32> {
        let container = self.containers.iter().flatten().find(|container| container.id == *id)?;
        match &container.phase {
            Phase::Running(process) => Some(process.pid),
            _ => None,
        }
    }

    fn starting(&mut self, slot: usize) -> Option<&mut Starting> {
        match self.execs.get_mut(slot)?.as_mut().map(|exec| &mut exec.stage) {
            Some(Stage::Starting(starting)) => Some(starting),
            _ => None,
        }
    }

    /// Gives waiting execs a child, as many as may start at once.
    pub(super) fn start_execs(&mut self) {
        let is_starting = |exec: &&Exec| matches!(exec.stage, Stage::Starting(_));
        let mut starting = self.execs.iter().flatten().filter(is_starting).count();
        while starting < MAX_STARTING {
            let Some(slot) = self.exec_queue.pop_front() else { return };
            if self.start_exec(slot) {
                starting += 1;
            }
        }
    }

    /// Whether a child is at work for it.
    fn start_exec(&mut self, slot: usize) -> bool {
        let Some(mut exec) = self.execs.get_mut(slot).and_then(Option::take) else { return false };
        let Stage::Waiting(request, streams) = exec.stage else {
            self.execs[slot] = Some(exec);
            return false;
        };
        let started = match self.init_of(&exec.container) {
            Some(init) => self
                .fork_exec(slot, init, &request, streams)
                .map_err(|error| format!("start a process for it: {error}")),
            None => Err(format!("{} does not run", exec.container)),
        };
        match started {
            Ok(starting) => {
                exec.stage = Stage::Starting(starting);
                self.execs[slot] = Some(exec);
                true
            }
            Err(reason) => {
                let outcome = ExecOutcome::Refused { reason };
                self.tell(&Event::ExecEnded { exec: exec.id, outcome });
                false
            }
        }
    }

    fn fork_exec(
        &self,
        slot: usize,
        init: u32,
        request: &wire::Exec,
        streams: Vec<OwnedFd>,
    ) -> std::io::Result<Starting> {
        let kind = SocketType::SEQPACKET;
        let (control, write) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_passcred(&control, true)?;
        self.watch(&control, Source::Exec(slot))?;
        let paths = self.paths.clone();
        let child = child::spawn_over(write, streams, |control, streams| {
            tenant::run(&paths, init, request, streams, control)
        })?;
        let deadline_ms = self.now_ms().saturating_add(START_TIMEOUT_MS);
        let answer = Answer::default();
        Ok(Starting { child, control, deadline_ms, answer, signal: None })
    }

    /// Takes what an exec's child and process say.
    pub(super) fn hear_exec(&mut self, slot: usize) {
        let Some(starting) = self.starting(slot) else { return };
        let mut buffer = [0; PACKET_BYTES];
        for _ in 0..PACKETS_PER_TURN {
            match socket::receive_from_process(&starting.control, &mut buffer) {
                Ok((0, _)) => starting.answer.closed = true,
                Ok((count, pid)) => {
                    starting.answer.hear(&String::from_utf8_lossy(&buffer[..count]), pid);
                    continue;
                }
                Err(_) => {}
            }
            break;
        }
        let Some(verdict) = starting.answer.verdict() else { return };
        let (ended, signal) = (starting.answer.ended, starting.signal);
        match verdict {
            Ok(pid) => {
                self.exec_started(slot, pid, ended);
                if let (None, Some(signal)) = (ended, signal) {
                    signal_group(pid, signal);
                }
            }
            Err(outcome) => self.exec_over(slot, outcome),
        }
    }

    /// Hears everything that was said before somebody ended.
    pub(super) fn hear_starting_execs(&mut self) {
        for slot in 0..self.execs.len() {
            self.hear_exec(slot);
        }
    }

    fn exec_started(&mut self, slot: usize, pid: u32, ended: Option<Option<i32>>) {
        let Some(Some(exec)) = self.execs.get_mut(slot) else { return };
        exec.stage = Stage::Running(pid);
        let exec = exec.id;
        self.tell(&Event::ExecStarted { exec, pid });
        if let Some(code) = ended {
            self.exec_over(slot, outcome_of(code));
        }
    }

    /// Takes an exec out of the table and says how it ended. A child that is still at work is ended,
    /// and so is what it made.
    fn exec_over(&mut self, slot: usize, outcome: ExecOutcome) {
        let Some(exec) = self.execs.get_mut(slot).and_then(Option::take) else { return };
        self.exec_queue.retain(|waiting| *waiting != slot);
        if let Stage::Starting(starting) = &exec.stage {
            if starting.answer.result.is_none() {
                // Not reaped before it is heard, so its number is still its own.
                send(starting.child, kill_process);
            }
            let answer = &starting.answer;
            let made = answer.created.or_else(|| self.made_for(&exec));
            if let (Some(pid), None) = (made, answer.ended) {
                send(pid, kill_process_group);
            }
            // A few small files in memory.
            drop(std::fs::remove_dir_all(self.paths.exec(exec.id)));
        }
        self.tell(&Event::ExecEnded { exec: exec.id, outcome });
    }

    /// The process that libcontainer made for an exec and that has not said so: it would wait for
    /// ever for a child that is gone.
    fn made_for(&self, exec: &Exec) -> Option<u32> {
        let named = std::fs::read_to_string(self.paths.exec(exec.id).join(PID_FILE)).ok()?;
        let pid: u32 = named.trim().parse().ok()?;
        // It may have ended, and its number may be another's.
        let own = parent_of(pid)? == std::process::id() && self.init_of(&exec.container)? != pid;
        let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        (own && cgroups.contains(&self.paths.cgroup(&exec.container))).then_some(pid)
    }

    /// A process ended that is no container's first.
    pub(super) fn exec_ended(&mut self, pid: u32, code: Option<i32>) {
        // What it said before its end may have come after the last look.
        self.hear_starting_execs();
        for slot in 0..self.execs.len() {
            match self.execs[slot].as_mut().map(|exec| &mut exec.stage) {
                Some(Stage::Running(running)) if *running == pid => {
                    return self.exec_over(slot, outcome_of(code));
                }
                Some(Stage::Starting(starting)) if starting.answer.created == Some(pid) => {
                    starting.answer.ended = Some(code);
                    return;
                }
                _ => {}
            }
        }
    }

    /// Signals an exec; unknown ones have ended.
    pub(super) fn kill_exec(&mut self, id: u64, signal: i32) {
        let known = |exec: &Option<Exec>| exec.as_ref().is_some_and(|exec| exec.id == id);
        let Some(slot) = self.execs.iter().position(known) else { return };
        let Some(Some(exec)) = self.execs.get_mut(slot) else { return };
        match &mut exec.stage {
            Stage::Running(pid) => signal_group(*pid, signal),
            // It may run already and only not have been heard.
            Stage::Starting(starting) if signal != SIGKILL => starting.signal = Some(signal),
            Stage::Waiting(..) | Stage::Starting(_) => {
                self.exec_over(slot, ExecOutcome::Exited(128 + signal));
            }
        }
    }

    /// When the next exec has had its time, if there is one.
    pub(super) fn next_exec_deadline_ms(&self) -> Option<u64> {
        let of = |exec: &Exec| match &exec.stage {
            Stage::Starting(starting) => Some(starting.deadline_ms),
            _ => None,
        };
        self.execs.iter().flatten().filter_map(of).min()
    }

    /// Gives up execs whose start had its time.
    pub(super) fn keep_exec_deadlines(&mut self, now_ms: u64) {
        for slot in 0..self.execs.len() {
            if self.starting(slot).is_some_and(|starting| starting.deadline_ms <= now_ms) {
                let reason = "starting it took too long; the container may be paused or out of \
                              memory"
                    .to_owned();
                self.exec_over(slot, ExecOutcome::Refused { reason });
            }
        }
    }

    /// Ends every exec: nobody is there who asked for them.
    pub(super) fn abandon_execs(&mut self) {
        for slot in 0..self.execs.len() {
            if let Some(Some(Exec { stage: Stage::Running(pid), .. })) = self.execs.get(slot) {
                send(*pid, kill_process_group);
            }
            self.exec_over(slot, ExecOutcome::Lost);
        }
    }
}

fn outcome_of(code: Option<i32>) -> ExecOutcome {
    code.map_or(ExecOutcome::Lost, ExecOutcome::Exited)
}

/// Signals an exec's process and those that it made. It leads a session of its own, so its group has
/// its number for as long as it is not reaped.
fn signal_group(pid: u32, signal: i32) {
    if let (Some(signal), Some(pid)) = (sys::signal(signal), process(pid)) {
        kill_process_group(pid, signal).ok();
    }
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

fn process(pid: u32) -> Option<Pid> {
    Pid::from_raw(pid.cast_signed())
}

/// Kills a child that was not waited for, or its group.
fn send(pid: u32, kill: fn(Pid, Signal) -> rustix::io::Result<()>) {
    if let Some(pid) = process(pid)
        && let Err(error) = kill(pid, Signal::KILL)
        && error != rustix::io::Errno::SRCH
    {
        complain(&format!("kill the process {pid:?} of an exec: {error}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_tells_what_became_of_it() {
        let mut answer = Answer::default();
        answer.hear("detail bad thing\n", None);
        answer.hear("created", Some(12));
        assert_eq!(answer.verdict(), None);
        answer.hear("done\n", Some(7));
        assert_eq!(answer.verdict(), Some(Ok(12)));

        let mut answer = Answer::default();
        answer.hear("detail bad thing\n", None);
        answer.hear("failed no such container\n", Some(7));
        let reason = "no such container; bad thing".to_owned();
        assert_eq!(answer.verdict(), Some(Err(ExecOutcome::Refused { reason })));

        let mut answer = Answer::default();
        answer.hear("created", Some(12));
        answer.hear("not-executed 127 nothing there", Some(12));
        let reason = "nothing there".to_owned();
        assert_eq!(answer.verdict(), Some(Err(ExecOutcome::NotExecuted { code: 127, reason })));

        let mut answer = Answer { closed: true, ..Answer::default() };
        assert!(matches!(answer.verdict(), Some(Err(ExecOutcome::Refused { .. }))));
        answer.hear("not-executed garbage", None);
        assert!(matches!(answer.verdict(), Some(Err(ExecOutcome::Refused { .. }))));
    }
}
