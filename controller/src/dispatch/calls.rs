//! Calls: a person looks into a node. The only commands on the wire.
//!
//! In: a caller's channels. Out: messages to the node and its answers back, told apart by session.
//! Each call has one small task that waits for its caller; everything else is here.

use std::collections::BTreeMap;

use bytes::Bytes;
use limpet_protocol::call::{CallIn, CallOut};
use limpet_protocol::codec;
use limpet_protocol::id::{NodeId, SessionId};
use limpet_protocol::topic::Topic;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::bus::Bus;

/// Calls at the same time. Each holds up to a window of chunks.
pub(crate) const MAX_CALLS: usize = 256;
/// Messages of callers that wait for the loop.
pub(crate) const MAX_WAITING: usize = 256;

/// What a caller's task tells the loop: the session, and a message or that the caller is gone.
pub(crate) type FromCaller = (SessionId, Option<CallIn>);

/// What a caller gives to open a call.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) node: NodeId,
    pub(crate) first: CallIn,
    pub(crate) answers: mpsc::Sender<CallOut>,
    pub(crate) more: mpsc::Receiver<CallIn>,
}

#[derive(Debug)]
struct Call {
    node: NodeId,
    answers: mpsc::Sender<CallOut>,
    /// Tells the caller's task the last answer; dropped, there is none.
    end: oneshot::Sender<CallOut>,
}

/// The open calls.
#[derive(Debug)]
pub(crate) struct Calls {
    bus: Bus,
    open: BTreeMap<SessionId, Call>,
    callers: mpsc::Sender<FromCaller>,
}

impl Calls {
    pub(crate) const fn new(bus: Bus, callers: mpsc::Sender<FromCaller>) -> Self {
        Self { bus, open: BTreeMap::new(), callers }
    }

    /// Opens a call to a node that can hear; or says why not.
    pub(crate) fn open(&mut self, opening: Opening, tasks: &mut JoinSet<()>) -> Result<(), String> {
        let Opening { node, first, answers, more } = opening;
        if self.open.len() >= MAX_CALLS {
            return Err(format!("{MAX_CALLS} calls are open, the most at a time: try again later"));
        }
        let session = random_session().ok_or("the system gives no random bytes")?;
        if !self.say(&node, &session, &first) {
            return Err("the controller has no connection to its broker now: try again".to_owned());
        }
        let (end, ended) = oneshot::channel();
        let caller = Caller {
            session: session.clone(),
            answers: answers.clone(),
            more,
            callers: self.callers.clone(),
        };
        tasks.spawn(caller.run(ended));
        self.open.insert(session, Call { node, answers, end });
        Ok(())
    }

    /// A caller said something, or is gone.
    pub(crate) fn caller(&mut self, session: &SessionId, said: Option<CallIn>) {
        let Some(call) = self.open.get(session) else { return };
        let last = matches!(said, None | Some(CallIn::Cancel));
        let message = said.unwrap_or(CallIn::Cancel);
        if !self.say(&call.node, session, &message) {
            tracing::debug!(node = %call.node, %session, "a message of a caller is lost");
        }
        if last {
            self.open.remove(session);
        }
    }

    /// A node answered; whether there is such a call to this node.
    pub(crate) fn answer(&mut self, node: &NodeId, session: &SessionId, out: CallOut) -> bool {
        let Some(call) = self.open.get(session) else { return false };
        if call.node != *node {
            return false;
        }
        if matches!(out, CallOut::End { .. }) {
            self.end(session, out);
        } else if call.answers.try_send(out).is_err() {
            // The credit that the node was given fits in the channel: it sends without credit, or
            // the caller is gone.
            let error = Some(format!("node {node} sent more than it was asked for"));
            self.caller_is_gone(session);
            self.end(session, CallOut::end(error));
        }
        true
    }

    /// A node can no longer be heard: its calls end.
    pub(crate) fn node_gone(&mut self, node: &NodeId, why: &str) {
        let of_node = self.open.iter().filter(|(_, call)| call.node == *node);
        let sessions: Vec<SessionId> = of_node.map(|(session, _)| session.clone()).collect();
        for session in sessions {
            self.end(&session, CallOut::end(Some(why.to_owned())));
        }
    }

    fn end(&mut self, session: &SessionId, end: CallOut) {
        if let Some(call) = self.open.remove(session)
            && call.end.send(end).is_err()
        {
            tracing::debug!(%session, "the caller was gone before its call ended");
        }
    }

    fn caller_is_gone(&self, session: &SessionId) {
        let Some(call) = self.open.get(session) else { return };
        if !self.say(&call.node, session, &CallIn::Cancel) {
            tracing::debug!(node = %call.node, %session, "a cancel is lost");
        }
    }

    fn say(&self, node: &NodeId, session: &SessionId, message: &CallIn) -> bool {
        let topic = Topic::CallIn(node.clone(), session.clone());
        codec::encode(message).is_ok_and(|bytes| self.bus.send(topic, Bytes::from(bytes)))
    }
}

/// The task of one call: waits for its caller.
struct Caller {
    session: SessionId,
    answers: mpsc::Sender<CallOut>,
    more: mpsc::Receiver<CallIn>,
    callers: mpsc::Sender<FromCaller>,
}

impl Caller {
    async fn run(mut self, mut ended: oneshot::Receiver<CallOut>) {
        let mut listening = true;
        loop {
            let said = tokio::select! {
                () = self.answers.closed() => None,
                end = &mut ended => {
                    // Everything before it is in the channel already; an error means that the
                    // caller went away in the meantime, and nobody is left to be told.
                    if let Ok(end) = end && self.answers.send(end).await.is_err() {
                        tracing::debug!(session = %self.session, "nobody reads the end of a call");
                    }
                    return;
                }
                said = self.more.recv(), if listening => match said {
                    // The caller has no more to say but still reads.
                    None => { listening = false; continue }
                    said => said,
                },
            };
            let gone = said.is_none();
            if self.callers.send((self.session.clone(), said)).await.is_err() || gone {
                return;
            }
        }
    }
}

/// 20 random characters of which a session's name may consist.
fn random_session() -> Option<SessionId> {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut bytes = [0; 20];
    SystemRandom::new().fill(&mut bytes).ok()?;
    let text: String =
        bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect();
    SessionId::new(&text).ok()
}
