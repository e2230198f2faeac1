//! Calls: somebody looks into the node. One task each, paid by credit.
//!
//! In: [`CallIn`] from the wire. Out: [`CallOut`]s for the wire, at most one queue of them, and each
//! chunk only for a credit that the caller gave. A caller that goes away costs one idle task until
//! the connection is next lost, and at most [`MAX_CALLS`] of them.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use limpet_protocol::call::{CallIn, CallOut, Stream};
use limpet_protocol::id::{InstanceId, SessionId};
use limpet_protocol::limits::{CALL_WINDOW, MAX_CALL_CHUNK_BYTES};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::runtime::logs::{LogLine, LogReader};
use crate::runtime::{ContainerId, RuntimePaths};

/// Calls at the same time: each holds one chunk of memory and one open file.
pub const MAX_CALLS: usize = 16;
/// Answers that wait for the link.
pub const ANSWER_QUEUE: usize = 8;
/// How soon a follower looks for more; doubled while there is none.
const FIRST_LOOK: Duration = Duration::from_millis(50);
/// The longest that a line waits for its follower.
const LONGEST_LOOK: Duration = Duration::from_millis(800);

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
    instance: InstanceId,
    credit: Arc<Semaphore>,
    newest: watch::Sender<Option<ContainerId>>,
}

/// The calls that are open.
#[derive(Debug, Default)]
pub struct Calls {
    open: BTreeMap<SessionId, Call>,
}

/// What the loop has to do about a message of a caller.
#[derive(Debug)]
pub enum Heard {
    /// Nothing more.
    Done,
    /// Run this as a task; its end ends the call.
    Run(Box<LogCall>),
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
            CallIn::Logs { instance, tail, follow, credit } => {
                if self.open.contains_key(session) {
                    return Heard::Done;
                }
                if self.open.len() == MAX_CALLS {
                    return refuse(format!(
                        "this node answers {MAX_CALLS} calls at a time; try again"
                    ));
                }
                let container = newest(&instance);
                if container.is_none() {
                    return refuse(format!("no container of {instance} is on this node"));
                }
                let permits = Arc::new(Semaphore::new(usize::from(credit.min(CALL_WINDOW))));
                let (to_call, from_loop) = watch::channel(container);
                let call = Call { instance, credit: permits.clone(), newest: to_call };
                self.open.insert(session.clone(), call);
                let session = session.clone();
                let call = LogCall { session, tail, follow, credit: permits, newest: from_loop };
                Heard::Run(Box::new(call))
            }
            CallIn::Credit { chunks } => {
                if let Some(call) = self.open.get(session) {
                    let room =
                        usize::from(CALL_WINDOW).saturating_sub(call.credit.available_permits());
                    call.credit.add_permits(usize::from(chunks).min(room));
                }
                Heard::Done
            }
            CallIn::Cancel => {
                self.ended(session);
                Heard::Done
            }
        }
    }

    /// A call is over: its task ends at its next step.
    pub fn ended(&mut self, session: &SessionId) {
        if let Some(call) = self.open.remove(session) {
            call.credit.close();
        }
    }

    /// The connection is gone, and every caller with it.
    pub fn end_all(&mut self) {
        for call in std::mem::take(&mut self.open).into_values() {
            call.credit.close();
        }
    }

    /// Tells followers of a newer container of their instance.
    pub fn follow(&self, newest: impl Fn(&InstanceId) -> Option<ContainerId>) {
        for call in self.open.values() {
            let container = newest(&call.instance);
            call.newest.send_if_modified(|known| {
                let changed = *known != container;
                *known = container;
                changed
            });
        }
    }
}

fn refuse(error: String) -> Heard {
    Heard::Answer(CallOut::End { error: Some(error) })
}

/// One caller's look at an instance's output.
#[derive(Debug)]
pub struct LogCall {
    session: SessionId,
    tail: Option<u32>,
    follow: bool,
    credit: Arc<Semaphore>,
    newest: watch::Receiver<Option<ContainerId>>,
}

impl LogCall {
    /// Which call it is.
    #[must_use]
    pub fn session(&self) -> &SessionId {
        &self.session
    }

    /// Sends what there is and, for a follower, what comes. Ends with an answer that says so unless
    /// the caller is gone.
    pub async fn run(mut self, paths: RuntimePaths, answers: mpsc::Sender<Answer>) {
        let error = match self.send_all(&paths, &answers).await {
            Ok(()) => None,
            Err(error) => Some(format!("the output cannot be read: {error}")),
        };
        if !self.credit.is_closed() {
            let message = CallOut::End { error };
            if answers.send(Answer { session: self.session, message }).await.is_err() {
                tracing::debug!("the loop ended before a call");
            }
        }
    }

    async fn send_all(
        &mut self,
        paths: &RuntimePaths,
        answers: &mpsc::Sender<Answer>,
    ) -> io::Result<()> {
        let mut sequence = 0;
        let mut look = FIRST_LOOK;
        let mut container = self.newest.borrow_and_update().clone();
        while let Some(id) = container {
            let mut reader = LogReader::open(paths, &id, self.tail.take())?;
            loop {
                let lines = reader.read(MAX_CALL_CHUNK_BYTES)?;
                let got_any = !lines.is_empty();
                for (stream, data) in chunks(lines) {
                    let Ok(permit) = self.credit.acquire().await else { return Ok(()) };
                    permit.forget();
                    let message = CallOut::Chunk { sequence, stream, data };
                    sequence += 1;
                    let answer = Answer { session: self.session.clone(), message };
                    if answers.send(answer).await.is_err() {
                        return Ok(());
                    }
                }
                if got_any {
                    look = FIRST_LOOK;
                    continue;
                }
                if !self.follow || self.credit.is_closed() {
                    return Ok(());
                }
                // Everything of this container is read before the next one's begins.
                if self.newest.has_changed().unwrap_or(false) {
                    break;
                }
                tokio::time::sleep(look).await;
                look = (look * 2).min(LONGEST_LOOK);
            }
            container = self.newest.borrow_and_update().clone();
        }
        Ok(())
    }
}

/// Joins lines that follow each other on one stream into chunks that the wire takes.
fn chunks(lines: Vec<LogLine>) -> Vec<(Stream, Vec<u8>)> {
    let mut chunks: Vec<(Stream, Vec<u8>)> = Vec::new();
    for line in lines {
        for piece in line.data.chunks(MAX_CALL_CHUNK_BYTES) {
            match chunks.last_mut() {
                Some((stream, data))
                    if *stream == line.stream
                        && data.len() + piece.len() <= MAX_CALL_CHUNK_BYTES =>
                {
                    data.extend_from_slice(piece);
                }
                _ => chunks.push((line.stream, piece.to_vec())),
            }
        }
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logs(credit: u16) -> CallIn {
        let instance = "shop.web.1".parse().unwrap();
        CallIn::Logs { instance, tail: None, follow: false, credit }
    }

    fn container(instance: &InstanceId) -> Option<ContainerId> {
        Some(ContainerId { instance: instance.clone(), attempt: 1 })
    }

    #[test]
    fn there_are_only_so_many_calls_and_no_more_credit_than_the_window() {
        let mut calls = Calls::default();
        let session = |number: usize| SessionId::new(&format!("s{number}")).unwrap();
        for number in 0..MAX_CALLS {
            assert!(matches!(calls.hear(&session(number), logs(999), container), Heard::Run(_)));
        }
        let more = calls.hear(&session(99), logs(1), container);
        assert!(matches!(more, Heard::Answer(CallOut::End { error: Some(_) })));
        calls.hear(&session(0), CallIn::Credit { chunks: u16::MAX }, container);
        let credit = calls.open[&session(0)].credit.clone();
        assert_eq!(credit.available_permits(), usize::from(CALL_WINDOW));
        calls.hear(&session(0), CallIn::Cancel, container);
        assert!(credit.is_closed());
        assert!(matches!(calls.hear(&session(99), logs(1), container), Heard::Run(_)));
        let nobody = calls.hear(&session(98), logs(1), |_| None);
        assert!(matches!(nobody, Heard::Answer(CallOut::End { error: Some(_) })));
    }

    #[test]
    fn lines_of_one_stream_share_a_chunk() {
        let line =
            |stream, text: &str| LogLine { at_ms: 0, stream, data: text.as_bytes().to_vec() };
        let long = "x".repeat(MAX_CALL_CHUNK_BYTES);
        let lines = vec![
            line(Stream::Stdout, "a\n"),
            line(Stream::Stdout, "b\n"),
            line(Stream::Stderr, "c\n"),
            line(Stream::Stderr, &long),
        ];
        let sizes: Vec<(Stream, usize)> =
            chunks(lines).into_iter().map(|(stream, data)| (stream, data.len())).collect();
        let expected = [(Stream::Stdout, 4), (Stream::Stderr, 2), (Stream::Stderr, long.len())];
        assert_eq!(sizes, expected);
    }
}
