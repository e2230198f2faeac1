//! Joining: an agent with a join token becomes a node.
//!
//! In: a request and the session of its topic. Out: a node in the store and the reply. The name is
//! made unique; the secret is made here and only its hash is kept. A request that comes twice gets
//! the same reply, so that a lost answer does not make two nodes of one.

use std::collections::VecDeque;

use limpet_protocol::codec;
use limpet_protocol::id::{NodeId, SessionId};
use limpet_protocol::message::{JoinReply, JoinRequest};
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};

use crate::broker::is_reserved;
use crate::store::records::NodeRecord;
use crate::store::{CommitError, Compare, Key, Op, Store, StoreError, Transaction};

/// Replies that are remembered for agents that ask again.
const REMEMBERED: usize = 256;
/// How many numbers are tried behind a name that is taken.
const MAX_NUMBER: u32 = 10_000;

/// What every node is told when it joins.
#[derive(Debug, Clone)]
pub(crate) struct Welcome {
    pub(crate) image_port: u16,
    pub(crate) image_host: Option<String>,
}

/// Joining.
#[derive(Debug)]
pub(crate) struct Joins {
    store: Store,
    welcome: Welcome,
    replies: VecDeque<(SessionId, JoinReply)>,
}

impl Joins {
    pub(crate) const fn new(store: Store, welcome: Welcome) -> Self {
        Self { store, welcome, replies: VecDeque::new() }
    }

    /// The reply that this session got before.
    pub(crate) fn known(&self, session: &SessionId) -> Option<&JoinReply> {
        self.replies.iter().find(|(known, _)| known == session).map(|(_, reply)| reply)
    }

    /// Makes a node of an agent whose proof was found right; it is in the store then.
    pub(crate) async fn accept(
        &mut self,
        session: SessionId,
        request: JoinRequest,
        wall_ms: u64,
    ) -> Result<JoinReply, StoreError> {
        let reply = match self.enrol(request, wall_ms).await {
            Ok((node, secret)) => JoinReply::Accepted {
                node,
                secret,
                controller_key: self.store.identity().public_key().to_vec(),
                image_port: self.welcome.image_port,
                image_host: self.welcome.image_host.clone(),
            },
            Err(Refusal::Store(error)) => return Err(error),
            Err(Refusal::Because(reason)) => JoinReply::Refused { reason },
        };
        self.replies.push_back((session, reply.clone()));
        if self.replies.len() > REMEMBERED {
            self.replies.pop_front();
        }
        Ok(reply)
    }

    async fn enrol(&self, request: JoinRequest, wall_ms: u64) -> Result<(NodeId, String), Refusal> {
        let secret = random_secret()?;
        for number in 1..=MAX_NUMBER {
            let Some(node) = numbered(&request.wanted, number) else { continue };
            if is_reserved(&node) || self.store.get(&Key::Node(node.clone()))?.is_some() {
                continue;
            }
            let record = NodeRecord {
                node: node.clone(),
                secret_sha256: hex(&Sha256::digest(secret.as_bytes())),
                labels: std::collections::BTreeMap::new(),
                facts: request.facts.clone(),
                joined_ms: wall_ms,
                availability: Default::default(),
                seal_key: None,
                mesh: None,
            };
            let value = codec::encode(&record)
                .map_err(|error| Refusal::Because(format!("cannot keep the node: {error}")))?;
            let key = Key::Node(node.clone());
            let transaction = Transaction {
                compare: vec![Compare { key: key.clone(), modified: None }],
                if_revision: None,
                ops: vec![Op::Put(key, value)],
            };
            match self.store.commit(transaction).await {
                Ok(_) => return Ok((node, secret)),
                // Another agent was faster with this name.
                Err(CommitError::Conflict { .. }) => {}
                Err(CommitError::Store(error)) => return Err(error.into()),
                Err(error) => return Err(Refusal::Because(error.to_string())),
            }
        }
        Err(Refusal::Because(format!(
            "every name from {0} to {0}-{MAX_NUMBER} is taken: choose another name for the node",
            request.wanted
        )))
    }
}

/// Why an agent does not become a node.
enum Refusal {
    Store(StoreError),
    Because(String),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// The name itself, then with -2, -3 and so on, cut where it would be too long.
fn numbered(wanted: &NodeId, number: u32) -> Option<NodeId> {
    if number == 1 {
        return Some(wanted.clone());
    }
    let suffix = format!("-{number}");
    let room = NodeId::MAX - suffix.len();
    let base: String = wanted.as_str().chars().take(room).collect();
    NodeId::new(&format!("{base}{suffix}")).ok()
}

fn random_secret() -> Result<String, Refusal> {
    let mut bytes = [0; 32];
    let failed = |_| Refusal::Because("the controller's system gives no random bytes".to_owned());
    SystemRandom::new().fill(&mut bytes).map_err(failed)?;
    Ok(hex(&bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_numbered_and_never_too_long() {
        let long: NodeId = "a".repeat(63).parse().unwrap();
        let pi: NodeId = "pi".parse().unwrap();
        assert_eq!(numbered(&pi, 1).unwrap().as_str(), "pi");
        assert_eq!(numbered(&pi, 12).unwrap().as_str(), "pi-12");
        assert!(numbered(&long, 10_000).unwrap().as_str().ends_with("a-10000"));
    }
}
