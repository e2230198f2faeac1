//! A call to a node, as the handlers hold it: questions out, answers in, credit both ways.
//!
//! The node sends only for credit, and credit is given as answers are passed on: a slow reader holds
//! [`CALL_WINDOW`] chunks at most, here and on the node. Who goes away ends the call.

use std::sync::Arc;
use std::time::Duration;

use limpet_protocol::call::{CallIn, CallOut};
use limpet_protocol::id::{InstanceId, NodeId};
use limpet_protocol::limits::{CALL_WINDOW, INPUT_WINDOW};
use tokio::sync::{mpsc, oneshot, watch};

use super::Api;
use super::error::ApiError;
use crate::control_loop::{Request, View};

/// How long the control loop may take to open a call.
const OPEN_LIMIT: Duration = Duration::from_secs(5);
/// How long a node may take to say its first word: an agent that does not know a kind of call, and
/// does not know that it has to say so, is silent.
const FIRST_WORD_LIMIT: Duration = Duration::from_secs(10);
/// How long a node may be silent when it is not asked to wait for anything.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// Credit is given back in portions, so that not every chunk costs a message.
const CREDIT_PORTION: u16 = CALL_WINDOW / 4;

/// The instance of this name and the node that it is on, if that can be reached.
pub(super) fn locate(
    view: &View,
    name: &str,
    what: &str,
) -> Result<(InstanceId, NodeId), ApiError> {
    let missing = || ApiError::not_found(format!("there is no instance {name:?}"));
    let instance: InstanceId = name.parse().map_err(|_| missing())?;
    // One that was replaced elsewhere may be shown twice until its first node is heard of again.
    let named = view.instances.iter().filter(|it| it.instance == name);
    let reached = |node: &Option<String>| node.as_ref().is_some_and(|node| is_ready(view, node));
    let found = named.max_by_key(|it| (reached(&it.node), it.current)).ok_or_else(missing)?;
    let Some(node) = &found.node else {
        let reason = found.reason.as_deref().unwrap_or("it is being planned");
        return Err(ApiError::unavailable(format!("{name} has no node yet: {reason}")));
    };
    if !is_ready(view, node) {
        let message = format!("node {node} cannot be reached, so {what} {name} cannot be had now");
        return Err(ApiError::unavailable(message));
    }
    let node = node.parse().map_err(|_| missing())?;
    Ok((instance, node))
}

fn is_ready(view: &View, node: &str) -> bool {
    view.nodes.iter().any(|it| it.node == node && it.status == "ready")
}

/// An open call.
pub(super) struct Call {
    node: NodeId,
    /// Whether the node may be silent for as long as it likes.
    patient: bool,
    answers: mpsc::Receiver<CallOut>,
    more: mpsc::Sender<CallIn>,
    view: watch::Receiver<Arc<View>>,
    /// Chunks that were passed on and not given credit for.
    passed_on: u16,
    /// The sequence number of the next chunk.
    next: u64,
    ended: bool,
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.ended {
            // If the queue is full or gone, the loop learns it from the dropped receiver.
            drop(self.more.try_send(CallIn::Cancel));
        }
    }
}

impl Call {
    /// Opens a call by its first message.
    pub(super) async fn open(
        api: &Api,
        node: NodeId,
        first: CallIn,
        patient: bool,
    ) -> Result<Self, ApiError> {
        let (answers_in, answers) = mpsc::channel(usize::from(CALL_WINDOW + INPUT_WINDOW));
        let (more, more_out) = mpsc::channel(usize::from(CALL_WINDOW));
        let (opened, is_opened) = oneshot::channel();
        let name = node.clone();
        let request = Request::Call { node, first, answers: answers_in, more: more_out, opened };
        let busy = || ApiError::unavailable("the controller is busy: try again");
        let send = async {
            api.control.requests.send(request).await.map_err(|_| busy())?;
            is_opened.await.map_err(|_| busy())?.map_err(ApiError::unavailable)
        };
        tokio::time::timeout(OPEN_LIMIT, send).await.map_err(|_| busy())??;
        Ok(Self {
            node: name,
            patient,
            answers,
            more,
            view: api.control.view.clone(),
            passed_on: 0,
            next: 0,
            ended: false,
        })
    }

    /// Where further messages of the caller go.
    pub(super) fn sender(&self) -> mpsc::Sender<CallIn> {
        self.more.clone()
    }

    /// The first answer, from a node that may not know what it is asked.
    pub(super) async fn first_word(&mut self) -> Result<CallOut, ApiError> {
        let silent = |node: &NodeId| {
            let text = format!(
                "node {node} does not answer; its agent may be too old for this: update it"
            );
            ApiError::unavailable(text)
        };
        match tokio::time::timeout(FIRST_WORD_LIMIT, self.receive()).await {
            Ok(answer) => answer.map_err(ApiError::unavailable),
            Err(_) => Err(silent(&self.node)),
        }
    }

    /// The next answer, or why there is none. What was delivered twice is left out; what is missing
    /// is left to the caller. Cancel-safe.
    pub(super) async fn receive(&mut self) -> Result<CallOut, String> {
        self.give_credit();
        loop {
            let node = &self.node;
            let answer = tokio::select! {
                // Cancel-safe: a received answer is returned at once.
                answer = self.answers.recv() => {
                    answer.ok_or_else(|| format!("node {node} ended the call without a word"))?
                }
                // Cancel-safe: only looks.
                changed = self.view.changed() => {
                    let here = changed.is_ok()
                        && is_ready(&self.view.borrow_and_update(), node.as_str());
                    if !here {
                        return Err(format!("node {node} cannot be reached any more"));
                    }
                    continue;
                }
                () = tokio::time::sleep(SILENCE_LIMIT), if !self.patient => {
                    return Err(format!("node {node} does not answer"));
                }
            };
            match &answer {
                CallOut::Chunk { sequence, .. } if *sequence < self.next => continue,
                CallOut::Chunk { sequence, .. } => {
                    self.next = sequence.saturating_add(1);
                    self.passed_on += 1;
                }
                CallOut::End { .. } => self.ended = true,
                CallOut::Credit { .. }
                | CallOut::Load(_)
                | CallOut::Missing(_)
                | CallOut::Scales(_)
                | CallOut::Node(_) => {}
            }
            return Ok(answer);
        }
    }

    /// The same where a missing chunk makes the rest worthless.
    pub(super) async fn receive_whole(&mut self) -> Result<CallOut, String> {
        let expected = self.next;
        let answer = self.receive().await?;
        match answer {
            CallOut::Chunk { sequence, .. } if sequence != expected => {
                Err("some data was lost on the way".to_owned())
            }
            answer => Ok(answer),
        }
    }

    fn give_credit(&mut self) {
        if self.passed_on >= CREDIT_PORTION
            && self.more.try_send(CallIn::Credit { chunks: self.passed_on }).is_ok()
        {
            self.passed_on = 0;
        }
    }
}
