//! Calls: somebody looks into the node. One task each, paid by credit.
//!
//! In: [`CallIn`] from the wire. Out: [`CallOut`]s for the wire, at most one queue of them, and each
//! chunk only for a credit that the caller gave; input is taken only for credit of ours. A caller
//! that goes away costs one idle task until the connection is next lost, and at most [`MAX_CALLS`]
//! of them; what it ran is ended.
//!
//! - [`logs`]: output of an instance
//! - [`exec`]: a command in an instance
//! - [`copy`]: files in and out, by [`tree_out`] and [`tree_in`] within the container's [`root`]

pub mod copy;
pub mod exec;
pub mod logs;
mod root;
mod tree_in;
mod tree_out;

use std::collections::BTreeMap;
use std::sync::Arc;

use limpet_protocol::call::{CallIn, CallOut, ExecCall, Stream, TerminalSize};
use limpet_protocol::id::{InstanceId, SessionId};
use limpet_protocol::limits::{
    CALL_WINDOW, INPUT_WINDOW, MAX_CALL_CHUNK_BYTES, MAX_EXEC_BYTES, MAX_IMAGES_ASKED,
};
use limpet_protocol::spec::ImageSource;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::runtime::{ContainerId, ExecId, ExecOutcome};
use copy::{CopyCall, Direction};
use exec::ExecTask;
use logs::{LogCall, LogsWanted};

/// Callers at a time that are told what is missing of images: each may keep a registry busy.
const MAX_COUNTING: usize = 4;
/// Calls at the same time: each holds some chunks of memory and some descriptors.
pub const MAX_CALLS: usize = 32;
/// Answers that wait for the link.
pub const ANSWER_QUEUE: usize = 8;

/// One answer.
#[derive(Debug)]
pub struct Answer {
    /// To which call.
    pub session: SessionId,
    /// What.
    pub message: CallOut,
}

#[derive(Debug)]
struct Call {
    credit: Arc<Semaphore>,
    kind: Kind,
    input: Option<Input>,
}

#[derive(Debug)]
enum Kind {
    Logs {
        instance: InstanceId,
        newest: watch::Sender<Option<ContainerId>>,
    },
    Exec {
        /// None before the runtime has accepted it and after it has ended.
        exec: Option<ExecId>,
        size: watch::Sender<TerminalSize>,
        ended: Option<oneshot::Sender<ExecOutcome>>,
    },
    Copy,
}

/// Where a caller's input goes.
#[derive(Debug)]
struct Input {
    to_task: mpsc::Sender<Vec<u8>>,
    next: u64,
}

/// The calls that are open.
#[derive(Debug, Default)]
pub struct Calls {
    open: BTreeMap<SessionId, Call>,
    abandoned: Vec<ExecId>,
    copies: copy::Places,
    /// How many callers are told what is missing of images just now.
    counting: usize,
}

/// What the loop has to do about a message of a caller.
#[derive(Debug)]
pub enum Heard {
    /// Nothing more.
    Done,
    /// Run this as a task; its end ends the call.
    Logs(Box<LogCall>),
    /// The same.
    Copy(Box<CopyCall>),
    /// Ask the runtime for this and tell [`Calls::exec_began`].
    Exec(Box<ExecTask>),
    /// Signal this.
    Signal(ExecId, i32),
    /// Read what the instances use, and answer it.
    Load,
    /// Say what was decided about the numbers of instances.
    Scales,
    /// Read what the node uses, and answer it.
    Node,
    /// Count what is missing of these images, answer it, and tell [`Calls::counted`].
    Missing(Vec<ImageSource>),
    /// Answer so.
    Answer(CallOut),
}

impl Calls {
    /// A caller said something. `newest` finds the container that an instance's name means now.
    pub fn hear(
        &mut self,
        session: &SessionId,
        message: CallIn,
        newest: impl Fn(&InstanceId) -> Option<ContainerId>,
    ) -> Heard {
        match message {
            CallIn::Logs { instance, tail, follow, credit, since_ms, timestamps } => {
                let wanted = LogsWanted { tail, follow, since_ms, timestamps };
                self.opened(session, &instance, newest)
                    .map(|container| self.logs(session, (instance, container), wanted, credit))
            }
            CallIn::Exec(call) => self
                .opened(session, &call.instance, newest)
                .map(|container| self.exec(session, container, call)),
            CallIn::Read { instance, path, credit } => self
                .opened(session, &instance, newest)
                .map(|container| self.copy(session, container, Direction::Out { path }, credit)),
            CallIn::Write { instance, path, contents } => {
                let direction = |input| Direction::In { path, contents, input };
                self.opened(session, &instance, newest).map(|container| {
                    let (to_task, from_loop) = mpsc::channel(usize::from(INPUT_WINDOW));
                    let heard = self.copy(session, container, direction(from_loop), 0);
                    self.takes_input(session, to_task);
                    heard
                })
            }
            CallIn::Load => Ok(Heard::Load),
            CallIn::Scales => Ok(Heard::Scales),
            CallIn::Node => Ok(Heard::Node),
            CallIn::Missing { images } => Ok(self.missing(images)),
            CallIn::Input { sequence, data } => Ok(self.input(session, sequence, data)),
            CallIn::InputEnd => {
                if let Some(call) = self.open.get_mut(session) {
                    call.input = None;
                }
                Ok(Heard::Done)
            }
            CallIn::Resize(new) => {
                if let Some(Kind::Exec { size, .. }) = self.open.get(session).map(|call| &call.kind)
                {
                    size.send_replace(new);
                }
                Ok(Heard::Done)
            }
            CallIn::Signal { number } => Ok(match self.open.get(session).map(|call| &call.kind) {
                Some(Kind::Exec { exec: Some(exec), .. }) => Heard::Signal(*exec, number),
                _ => Heard::Done,
            }),
            CallIn::Credit { chunks } => {
                self.credit(session, chunks);
                Ok(Heard::Done)
            }
            CallIn::Cancel => {
                self.ended(session);
                Ok(Heard::Done)
            }
        }
        .unwrap_or_else(|heard| heard)
    }

    fn missing(&mut self, mut images: Vec<ImageSource>) -> Heard {
        if self.counting == MAX_COUNTING {
            return refuse("this node counts for others already; try again".to_owned());
        }
        self.counting += 1;
        images.truncate(MAX_IMAGES_ASKED);
        Heard::Missing(images)
    }

    /// A caller was told what is missing.
    pub fn counted(&mut self) {
        self.counting = self.counting.saturating_sub(1);
    }

    /// Whether a new call can be opened, and the container that it is about.
    fn opened(
        &self,
        session: &SessionId,
        instance: &InstanceId,
        newest: impl Fn(&InstanceId) -> Option<ContainerId>,
    ) -> Result<ContainerId, Heard> {
        if self.open.contains_key(session) {
            return Err(Heard::Done);
        }
        if self.open.len() == MAX_CALLS {
            return Err(refuse(format!(
                "this node answers {MAX_CALLS} calls at a time; try again"
            )));
        }
        newest(instance)
            .ok_or_else(|| refuse(format!("no container of {instance} is on this node")))
    }

    fn put(&mut self, session: &SessionId, kind: Kind, credit: u16) -> Arc<Semaphore> {
        let permits = Arc::new(Semaphore::new(usize::from(credit.min(CALL_WINDOW))));
        let call = Call { credit: permits.clone(), kind, input: None };
        self.open.insert(session.clone(), call);
        permits
    }

    fn takes_input(&mut self, session: &SessionId, to_task: mpsc::Sender<Vec<u8>>) {
        if let Some(call) = self.open.get_mut(session) {
            call.input = Some(Input { to_task, next: 0 });
        }
    }

    fn logs(
        &mut self,
        session: &SessionId,
        (instance, container): (InstanceId, ContainerId),
        wanted: LogsWanted,
        credit: u16,
    ) -> Heard {
        let (to_call, newest) = watch::channel(Some(container));
        let kind = Kind::Logs { instance, newest: to_call };
        let credit = self.put(session, kind, credit);
        let session = session.clone();
        Heard::Logs(Box::new(LogCall { session, wanted, credit, newest, open: [false; 2] }))
    }

    fn exec(&mut self, session: &SessionId, container: ContainerId, call: ExecCall) -> Heard {
        let words = call.command.iter().map(String::len).sum::<usize>();
        let values = call.environment.iter().map(|(name, value)| name.len() + value.len());
        if words + values.sum::<usize>() > MAX_EXEC_BYTES {
            return refuse(format!(
                "a command and its environment have at most {MAX_EXEC_BYTES} bytes"
            ));
        }
        let (size, resized) = watch::channel(call.terminal.unwrap_or(DEFAULT_SIZE));
        let (ended, is_ended) = oneshot::channel();
        let kind = Kind::Exec { exec: None, size, ended: Some(ended) };
        let credit = self.put(session, kind, call.credit);
        let mut input = None;
        if call.input {
            let (to_task, from_loop) = mpsc::channel(usize::from(INPUT_WINDOW));
            self.takes_input(session, to_task);
            input = Some(from_loop);
        }
        match ExecTask::prepare(
            session.clone(),
            container,
            call,
            (credit, input, resized, is_ended),
        ) {
            Ok(task) => Heard::Exec(Box::new(task)),
            Err(error) => {
                self.ended(session);
                refuse(format!("the node cannot make the streams of a command: {error}"))
            }
        }
    }

    fn copy(
        &mut self,
        session: &SessionId,
        container: ContainerId,
        direction: Direction,
        credit: u16,
    ) -> Heard {
        let Some(place) = self.copies.take() else {
            return refuse(format!(
                "this node copies {} trees at a time; try again",
                copy::MAX_COPIES
            ));
        };
        let credit = self.put(session, Kind::Copy, credit);
        let session = session.clone();
        Heard::Copy(Box::new(CopyCall { session, container, direction, credit, place }))
    }

    fn input(&mut self, session: &SessionId, sequence: u64, data: Vec<u8>) -> Heard {
        let Some(input) = self.open.get_mut(session).and_then(|call| call.input.as_mut()) else {
            return Heard::Done;
        };
        if sequence < input.next {
            // Delivered twice, which QoS 1 allows.
            return Heard::Done;
        }
        let fits = data.len() <= MAX_CALL_CHUNK_BYTES && sequence == input.next;
        input.next += 1;
        // A task that takes no more input has a closed channel: the rest is for nobody.
        if fits && !matches!(input.to_task.try_send(data), Err(mpsc::error::TrySendError::Full(_)))
        {
            return Heard::Done;
        }
        self.ended(session);
        refuse("some input was lost on the way, or came without credit".to_owned())
    }

    fn credit(&self, session: &SessionId, chunks: u16) {
        if let Some(call) = self.open.get(session) {
            let room = usize::from(CALL_WINDOW).saturating_sub(call.credit.available_permits());
            call.credit.add_permits(usize::from(chunks).min(room));
        }
    }

    /// The runtime accepted the exec of a call.
    pub fn exec_began(&mut self, session: &SessionId, id: ExecId) {
        if let Some(Kind::Exec { exec, .. }) = self.open.get_mut(session).map(|call| &mut call.kind)
        {
            *exec = Some(id);
        }
    }

    /// An exec ended; whether it was a call's.
    pub fn exec_ended(&mut self, id: ExecId, outcome: &ExecOutcome) -> bool {
        for call in self.open.values_mut() {
            let Kind::Exec { exec, ended, .. } = &mut call.kind else { continue };
            if *exec == Some(id) {
                *exec = None;
                if let Some(ended) = ended.take() {
                    // A task that is gone has nobody to tell.
                    drop(ended.send(outcome.clone()));
                }
                return true;
            }
        }
        false
    }

    /// Execs whose caller is gone: they are to be ended.
    pub fn take_abandoned(&mut self) -> Vec<ExecId> {
        std::mem::take(&mut self.abandoned)
    }

    /// A call is over: its task ends at its next step.
    pub fn ended(&mut self, session: &SessionId) {
        if let Some(call) = self.open.remove(session) {
            self.close(&call);
        }
    }

    /// The connection is gone, and every caller with it.
    pub fn end_all(&mut self) {
        for call in std::mem::take(&mut self.open).into_values() {
            self.close(&call);
        }
    }

    fn close(&mut self, call: &Call) {
        call.credit.close();
        if let Kind::Exec { exec: Some(exec), .. } = call.kind {
            self.abandoned.push(exec);
        }
    }

    /// Tells followers of a newer container of their instance.
    pub fn follow(&self, newest: impl Fn(&InstanceId) -> Option<ContainerId>) {
        for call in self.open.values() {
            let Kind::Logs { instance, newest: to_call } = &call.kind else { continue };
            let container = newest(instance);
            to_call.send_if_modified(|known| {
                let changed = *known != container;
                *known = container;
                changed
            });
        }
    }
}

/// A terminal's size when nobody says one.
const DEFAULT_SIZE: TerminalSize = TerminalSize { rows: 24, columns: 80 };

fn refuse(error: String) -> Heard {
    Heard::Answer(CallOut::end(Some(error)))
}

/// The answers of one call: chunks for credit, and the rest.
#[derive(Debug)]
struct Out {
    session: SessionId,
    credit: Arc<Semaphore>,
    answers: mpsc::Sender<Answer>,
    sequence: u64,
}

impl Out {
    fn new(session: SessionId, credit: Arc<Semaphore>, answers: mpsc::Sender<Answer>) -> Self {
        Self { session, credit, answers, sequence: 0 }
    }

    /// Whether the caller is gone.
    fn is_closed(&self) -> bool {
        self.credit.is_closed()
    }

    /// Sends a chunk when there is credit; false if the caller is gone.
    async fn chunk(&mut self, stream: Stream, data: Vec<u8>) -> bool {
        let Some(place) = self.place().await else { return false };
        place.send(stream, data);
        true
    }

    /// Waits for credit and for room; none if the caller is gone. Cancel-safe.
    async fn place(&mut self) -> Option<Place<'_>> {
        let permit = self.credit.acquire().await.ok()?;
        let room = self.answers.reserve().await.ok()?;
        Some(Place { permit, room, session: &self.session, sequence: &mut self.sequence })
    }

    /// Says what needs no credit.
    async fn say(&self, message: CallOut) {
        if !self.is_closed()
            && self.answers.send(Answer { session: self.session.clone(), message }).await.is_err()
        {
            tracing::debug!("the loop ended before a call");
        }
    }

    /// Says the last word.
    async fn end(self, message: CallOut) {
        self.say(message).await;
    }
}

/// Room for one chunk.
struct Place<'a> {
    permit: tokio::sync::SemaphorePermit<'a>,
    room: mpsc::Permit<'a, Answer>,
    session: &'a SessionId,
    sequence: &'a mut u64,
}

impl Place<'_> {
    fn send(self, stream: Stream, data: Vec<u8>) {
        self.permit.forget();
        let message = CallOut::Chunk { sequence: *self.sequence, stream, data };
        *self.sequence += 1;
        self.room.send(Answer { session: self.session.clone(), message });
    }
}

#[cfg(test)]
mod tests;
