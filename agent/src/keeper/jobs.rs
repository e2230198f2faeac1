//! What forked children do for containers, and what their answers and ends make of the table.

use std::os::fd::OwnedFd;

use limpet_protocol::report::Exit;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{WaitOptions, WaitStatus, wait};

use super::child;
use super::container::{Job, Phase, Process, Reason, Terminal};
use super::event_loop::{Keeper, Source};
use super::log::{remove_log, remove_older_logs};
use super::wire::Event;
use super::{complain, socket};

/// Children at work at the same time: enough to keep a small board's processors busy.
const MAX_JOBS: usize = 8;
/// Longest time that one may take: an image's content may have to be copied into a volume.
const JOB_TIMEOUT_MS: u64 = 120_000;
/// Ended processes taken in one turn: orphans of a hostile container must not starve the rest.
const REAPED_PER_TURN: usize = 256;
/// Bytes taken from a control at once.
const CONTROL_BYTES: usize = 4096;
/// Most reads of one control in a turn.
const CONTROL_READS: usize = 4;

/// The end of a new pair of sockets that goes to a container which is to have a terminal.
fn open_terminal(terminal: &mut Terminal) -> std::io::Result<Option<OwnedFd>> {
    if !matches!(terminal, Terminal::Wanted) {
        return Ok(None);
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (own, given) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    *terminal = Terminal::Coming(own);
    Ok(Some(given))
}

impl Keeper {
    /// Gives waiting containers a child, as many as may work at once.
    pub(super) fn start_jobs(&mut self) {
        while self.jobs < MAX_JOBS {
            let Some(place) = self.queue.pop_front() else { break };
            self.hierarchies.make(&self.paths.cgroup_parent);
            self.start_job(place);
            if self.queue.is_empty() {
                // Plans were as large as all that waited; the keeper itself is small.
                super::sys::trim_heap();
            }
        }
    }

    fn start_job(&mut self, place: usize) {
        let deadline_ms = self.now_ms().saturating_add(JOB_TIMEOUT_MS);
        let Some(mut container) = self.containers.get_mut(place).and_then(Option::take) else {
            return;
        };
        let paths = self.paths.clone();
        let id = container.id.clone();
        let socket = open_terminal(&mut container.terminal);
        let spawned = match &container.phase {
            Phase::Waiting(plan) => {
                let bundle = paths.bundle(&id);
                std::fs::create_dir_all(&bundle)
                    .and_then(|()| container.streams.iter_mut().try_for_each(|s| s.open(&bundle)))
                    .and_then(|()| {
                        container.save(&paths);
                        child::spawn_with(socket?.into_iter().collect(), |control, mut kept| {
                            child::create(&paths, &id, &plan.0, (control, kept.pop()))
                        })
                    })
            }
            Phase::Spent(reason) => {
                let keep_log = matches!(reason, Reason::Failed(_));
                let hierarchies = &self.hierarchies;
                child::spawn(|_| child::clean(&paths, hierarchies, &id, keep_log))
            }
            _ => {
                self.containers[place] = Some(container);
                return;
            }
        };
        let job = spawned.and_then(|(child, control)| {
            self.watch(&control, Source::Control(place))?;
            Ok(Job { child, control, deadline_ms, answer: child::Answer::default() })
        });
        let phase = std::mem::replace(&mut container.phase, Phase::Ended(super::agent::LOST));
        match (job, phase) {
            (Ok(job), Phase::Spent(reason)) => {
                container.phase = Phase::Cleaning(job, reason);
                self.jobs += 1;
            }
            (Ok(job), _) => {
                container.phase = Phase::Making(job);
                for (which, stream) in container.streams.iter().enumerate() {
                    if let Some(pipe) = &stream.pipe
                        && let Err(error) = self.watch(pipe, Source::Output(place, which))
                    {
                        complain(&format!("watch the output of {id}: {error}"));
                    }
                }
                self.jobs += 1;
            }
            (Err(error), Phase::Spent(reason)) => {
                complain(&format!("start a process that removes {id}: {error}"));
                container.phase = Phase::Spent(reason);
                self.containers[place] = Some(container);
                return self.forget(place);
            }
            (Err(error), _) => {
                let reason = format!("start a process that makes the container: {error}");
                container.phase = Phase::Spent(Reason::Failed(reason));
                self.queue.push_back(place);
            }
        }
        self.containers[place] = Some(container);
    }

    /// Takes what a child says.
    pub(super) fn hear_job(&mut self, place: usize) {
        let Some(job) = self.container(place).and_then(|c| c.job_mut()) else { return };
        let mut closed = false;
        let mut buffer = [0; CONTROL_BYTES];
        for _ in 0..CONTROL_READS {
            match rustix::io::read(&job.control, &mut buffer) {
                Ok(0) => closed = true,
                Ok(count) => {
                    job.answer.hear(&buffer[..count]);
                    continue;
                }
                Err(_) => {}
            }
            break;
        }
        self.judge(place, closed);
    }

    /// Whether the answer is enough to go on. A creation is over when the container's program is
    /// executed, which closes the last copy of the control.
    fn judge(&mut self, place: usize, closed: bool) {
        let Some(container) = self.container(place) else { return };
        match &mut container.phase {
            Phase::Making(job) if job.answer.failed.is_some() => {
                self.creation_failed(place, "the container could not be made");
            }
            Phase::Making(job) if closed && job.answer.failed_to_execute() => {
                self.creation_failed(place, "the container's program could not be executed");
            }
            Phase::Making(job) if closed && job.answer.started => {
                let ended = job.answer.ended;
                self.creation_done(place);
                if let Some(code) = ended {
                    self.ended(place, code);
                }
            }
            Phase::Making(_) if closed => {
                self.creation_failed(place, "the process that makes the container ended early");
            }
            Phase::Cleaning(job, _) if job.answer.done || job.answer.failed.is_some() || closed => {
                if !job.answer.done {
                    let reason = job.answer.reason("the process that removes it ended early");
                    complain(&format!("remove {}: {reason}", container.id));
                }
                self.end_job();
                self.forget(place);
            }
            _ => {}
        }
    }

    fn end_job(&mut self) {
        self.jobs = self.jobs.saturating_sub(1);
    }

    fn creation_done(&mut self, place: usize) {
        let paths = self.paths.clone();
        self.end_job();
        let Some(container) = self.container(place) else { return };
        let Some((pid, start_time)) = container.job().and_then(|job| job.answer.created) else {
            return;
        };
        container.phase = Phase::Running(Process { pid, start_time, pidfd: None });
        if let Terminal::Coming(socket) = std::mem::take(&mut container.terminal) {
            self.take_terminal(place, &socket);
        }
        let Some(container) = self.container(place) else { return };
        container.started_ms = super::event_loop::wall_ms();
        container.save(&paths);
        let id = container.id.clone();
        self.tell(&Event::Started { id, pid });
        self.signal_stop(place);
    }

    /// Takes the controlling side of a container's terminal: what it gives is the output.
    fn take_terminal(&mut self, place: usize, socket: &OwnedFd) {
        let taken = socket::receive_descriptors(socket).and_then(|mut fds| {
            let terminal = fds.pop().ok_or(std::io::ErrorKind::UnexpectedEof)?;
            rustix::io::ioctl_fionbio(&terminal, true)?;
            self.watch(&terminal, Source::Output(place, 0))?;
            Ok(terminal)
        });
        let Some(container) = self.container(place) else { return };
        match taken {
            Ok(terminal) => container.streams[0].pipe = Some(terminal),
            Err(error) => complain(&format!("take the terminal of {}: {error}", container.id)),
        }
    }

    /// Ends a creation that failed, and cleans up after it.
    pub(super) fn creation_failed(&mut self, place: usize, otherwise: &str) {
        let Some(container) = self.container(place) else { return };
        let reason = match container.job() {
            Some(job) => job.answer.reason(otherwise),
            None => otherwise.to_owned(),
        };
        let had_job = container.job().is_some();
        if let Some(job) = container.job()
            && let Some(pid) = rustix::process::Pid::from_raw(job.child.cast_signed())
        {
            // It has failed or is too late; if it ended, it is a zombie until it is reaped.
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
        }
        container.phase = Phase::Spent(Reason::Failed(reason));
        if had_job {
            self.end_job();
        }
        self.drain_outputs(place);
        self.queue.push_back(place);
    }

    /// Takes a container out of the table, and says so.
    fn forget(&mut self, place: usize) {
        let Some(container) = self.containers.get_mut(place).and_then(Option::take) else { return };
        let id = container.id;
        match container.phase {
            Phase::Cleaning(_, Reason::Failed(reason)) | Phase::Spent(Reason::Failed(reason)) => {
                let known = |other: &str| self.place_of(other).is_some();
                remove_older_logs(&self.paths.logs(), &id, known);
                self.tell(&Event::CreateFailed { id: id.clone(), reason });
                if container.remove {
                    remove_log(&self.paths.log(&id));
                    self.tell(&Event::Removed { id });
                }
            }
            _ => self.tell(&Event::Removed { id }),
        }
    }

    /// Takes every child that ended.
    pub(super) fn reap(&mut self) {
        self.clear_child_signal();
        self.hear_making();
        self.hear_starting_execs();
        for _ in 0..REAPED_PER_TURN {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    let pid = pid.as_raw_nonzero().get().unsigned_abs();
                    self.child_ended(pid, status);
                }
                Ok(None) | Err(_) => return,
            }
        }
        // The rest in the next turn: the signal is pending again as long as there are some.
        self.raise_child_signal();
    }

    /// Hears the children that make containers: each says whom it made and lets go before that one
    /// can end.
    fn hear_making(&mut self) {
        for place in 0..self.containers.len() {
            if matches!(self.container(place).map(|c| &c.phase), Some(Phase::Making(_))) {
                self.hear_job(place);
            }
        }
    }

    fn child_ended(&mut self, pid: u32, status: WaitStatus) {
        // What was said before this end may have come after the last look.
        self.hear_making();
        let is_its = |phase: &Phase| match phase {
            Phase::Running(process) => process.pid == pid && process.pidfd.is_none(),
            Phase::Making(job) => job.answer.created.is_some_and(|(init, _)| init == pid),
            _ => false,
        };
        let place =
            self.containers.iter().position(|c| c.as_ref().is_some_and(|c| is_its(&c.phase)));
        let code = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Some(code),
            (None, Some(signal)) => Some(128 + signal),
            (None, None) => None,
        };
        let Some(place) = place else { return self.exec_ended(pid, code) };
        if let Some(Phase::Making(job)) = self.container(place).map(|c| &mut c.phase) {
            if job.answer.started {
                // Told when the child has ended too: it may still write into the bundle.
                job.answer.ended = Some(code);
                return;
            }
            return self.creation_failed(place, "the container's first process ended early");
        }
        self.ended(place, code);
    }

    /// The first process of an adopted container ended: nobody can say how.
    pub(super) fn adopted_ended(&mut self, place: usize) {
        let adopted = |c: &mut super::container::Container| match &c.phase {
            Phase::Running(process) => process.pidfd.is_some(),
            _ => false,
        };
        if self.container(place).is_some_and(adopted) {
            self.ended(place, None);
        }
    }

    fn ended(&mut self, place: usize, code: Option<i32>) {
        let paths = self.paths.clone();
        let Some(container) = self.container(place) else { return };
        let id = container.id.clone();
        let cgroup = paths.cgroup(&id);
        let exit = Exit { code, out_of_memory: self.hierarchies.oom_kills(&cgroup) > 0 };
        // With the node's process namespace the others live on: a container ends as a whole.
        if self.hierarchies.has_processes(&cgroup) {
            self.hierarchies.kill(&cgroup);
        }
        self.drain_outputs(place);
        let Some(container) = self.container(place) else { return };
        container.phase = Phase::Ended(exit);
        container.stop = None;
        container.save(&paths);
        let remove = container.remove;
        self.tell(&Event::Exited { id, exit });
        if remove {
            self.remove_at(place);
        }
    }

    /// When the next deadline is, if there is one.
    pub(super) fn next_deadline_ms(&self) -> Option<u64> {
        let of = |container: &super::container::Container| {
            let stop = container.stop.map(|stop| stop.kill_at_ms);
            let job = container.job().map(|job| job.deadline_ms);
            [stop, job].into_iter().flatten().min()
        };
        let of_containers = self.containers.iter().flatten().filter_map(|c| of(c)).min();
        [of_containers, self.next_exec_deadline_ms()].into_iter().flatten().min()
    }

    /// Kills what had its time.
    pub(super) fn keep_deadlines(&mut self) {
        /// Until a killed container is seen to have ended; then it is killed once more.
        const KILL_AGAIN_MS: u64 = 1000;
        let now_ms = self.now_ms();
        self.keep_exec_deadlines(now_ms);
        for place in 0..self.containers.len() {
            let Some(container) = self.container(place) else { continue };
            let id = container.id.clone();
            let too_late = container.job().is_some_and(|job| job.deadline_ms <= now_ms);
            let kill = container.stop.is_some_and(|stop| stop.kill_at_ms <= now_ms);
            if kill {
                let again = now_ms.saturating_add(KILL_AGAIN_MS);
                container.stop =
                    container.stop.map(|stop| super::container::Stop { kill_at_ms: again, ..stop });
            }
            match &container.phase {
                Phase::Running(process) if kill => {
                    process.send(9);
                    self.hierarchies.kill(&self.paths.cgroup(&id));
                }
                Phase::Waiting(_) if kill => {
                    self.queue.retain(|waiting| *waiting != place);
                    self.creation_failed(place, "it was stopped before it was made");
                }
                Phase::Making(_) if kill => {
                    self.creation_failed(place, "it was stopped while it was being made");
                }
                Phase::Making(_) if too_late => {
                    self.creation_failed(place, "making the container took too long");
                }
                Phase::Cleaning(..) if too_late => {
                    complain(&format!(
                        "removing {id} took too long; it is tried at the next start"
                    ));
                    self.end_job();
                    self.forget(place);
                }
                _ if kill => container.stop = None,
                _ => {}
            }
        }
    }
}
