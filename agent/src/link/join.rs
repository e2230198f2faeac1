//! Joining: how a node without an identity gets one.
//!
//! In: a join token. Out: the [`Identity`] that the controller gave. The token proves itself twice:
//! as the password at the controller's own broker, and by a MAC in the request, so that joining
//! through a broker of somebody else's needs it too.

use std::time::Duration;

use limpet_protocol::broker_url::BrokerUrl;
use limpet_protocol::codec;
use limpet_protocol::id::{NodeId, SessionId};
use limpet_protocol::message::{JoinReply, JoinRequest, NodeFacts};
use limpet_protocol::topic::Topic;
use ring::hmac;
use ring::rand::SecureRandom as _;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, Event, EventLoop};
use sha2::{Digest as _, Sha256};

use super::pause::Pause;
use super::{options, random_byte};
use crate::config::JoinToken;
use crate::ledger::identity::Identity;

/// User name of whoever has only a token.
const JOIN_USER: &str = "join";
/// Until the controller has answered. It writes the new node to disk first.
const REPLY_LIMIT: Duration = Duration::from_secs(15);
/// Subscribe, publish: the whole of a join.
const CLIENT_QUEUE: usize = 4;

/// What a node needs to join.
#[derive(Debug, Clone)]
pub struct JoinSettings {
    /// The broker.
    pub broker: BrokerUrl,
    /// The token.
    pub token: JoinToken,
    /// The name that the node would like.
    pub wanted: NodeId,
    /// What the node is.
    pub facts: NodeFacts,
}

/// Why a node did not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The controller said no, and asking again would not help.
    #[error("the controller refused to let this node join: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// The broker does not know the token.
    #[error(
        "the broker at {broker} refused this node's join token: it is wrong, used up or too old; \
         make a new one with `limpet token create` and give it with --join-token"
    )]
    BadToken {
        /// Where.
        broker: String,
    },
    /// The broker does not know the user that its URL names.
    #[error(
        "the broker at {broker} refused the user name and password in its URL; give the right ones \
         with --controller mqtt://USER:PASSWORD@HOST"
    )]
    BadLogin {
        /// Where.
        broker: String,
    },
    /// No connection, or it broke.
    #[error("the broker at {broker} cannot be reached: {reason}")]
    Unreachable {
        /// Where.
        broker: String,
        /// Why.
        reason: String,
    },
    /// The controller did not answer.
    #[error("the controller did not answer within {} s", REPLY_LIMIT.as_secs())]
    NoReply,
    /// Something that must not happen did.
    #[error("{attempt}")]
    Internal {
        /// What was being tried.
        attempt: &'static str,
    },
}

/// Joins, and tries again for as long as that may help.
///
/// # Errors
/// [`JoinError::Refused`] and [`JoinError::Internal`]; everything else is waited out.
pub async fn join(settings: &JoinSettings) -> Result<Identity, JoinError> {
    let mut pause = Pause::default();
    let mut told = String::new();
    loop {
        match join_once(settings).await {
            Ok(identity) => return Ok(identity),
            Err(error @ (JoinError::Refused { .. } | JoinError::Internal { .. })) => {
                return Err(error);
            }
            Err(error) => {
                // One line for one cause, however often it is tried.
                let error = error.to_string();
                if error == told {
                    tracing::debug!("still not joined: {error}");
                } else {
                    tracing::warn!("not joined yet, trying again until it works: {error}");
                    told = error;
                }
            }
        }
        tokio::time::sleep(pause.next(random_byte())).await;
    }
}

/// One try.
///
/// # Errors
/// [`JoinError`].
pub async fn join_once(settings: &JoinSettings) -> Result<Identity, JoinError> {
    let session = random_session()?;
    let token = settings.token.reveal();
    let client_id = format!("{JOIN_USER}-{session}");
    let options = options::for_client(&settings.broker, &client_id, (JOIN_USER, token));
    let (client, event_loop) = AsyncClient::new(options, CLIENT_QUEUE);
    let request = JoinRequest {
        wanted: settings.wanted.clone(),
        facts: settings.facts.clone(),
        proof: proof(token, &session),
    };
    let request = codec::encode(&request)
        .map_err(|_| JoinError::Internal { attempt: "encode the request" })?;
    let talk = Talk { settings, session, client, event_loop, request };
    match tokio::time::timeout(REPLY_LIMIT, talk.run()).await {
        Ok(result) => result,
        Err(_) => Err(JoinError::NoReply),
    }
}

/// HMAC-SHA256 (RFC 2104) of the session id, keyed with SHA-256 of the token.
fn proof(token: &str, session: &SessionId) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &Sha256::digest(token.as_bytes()));
    hmac::sign(&key, session.as_str().as_bytes()).as_ref().to_vec()
}

fn random_session() -> Result<SessionId, JoinError> {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let failed = JoinError::Internal { attempt: "take random bytes from the kernel" };
    let mut bytes = [0_u8; 26];
    if ring::rand::SystemRandom::new().fill(&mut bytes).is_err() {
        return Err(failed);
    }
    let text: String =
        bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect();
    SessionId::new(&text).map_err(|_| failed)
}

struct Talk<'a> {
    settings: &'a JoinSettings,
    session: SessionId,
    client: AsyncClient,
    event_loop: EventLoop,
    request: Vec<u8>,
}

impl Talk<'_> {
    async fn run(mut self) -> Result<Identity, JoinError> {
        loop {
            let event = self.event_loop.poll().await.map_err(|error| {
                if options::is_refusal(&error) {
                    return self.refused();
                }
                let broker = self.settings.broker.to_string();
                JoinError::Unreachable { broker, reason: options::explain(&error) }
            })?;
            let Event::Incoming(packet) = event else { continue };
            match packet {
                Packet::ConnAck(_) => self.listen()?,
                Packet::SubAck(ack) => {
                    let heard = |code: &SubscribeReasonCode| {
                        matches!(code, SubscribeReasonCode::Success(_))
                    };
                    if !ack.return_codes.iter().all(heard) {
                        return Err(self.refused());
                    }
                    self.ask()?;
                }
                Packet::Publish(publish) => {
                    if let Some(result) = self.read(&publish.topic, &publish.payload) {
                        return result;
                    }
                }
                _ => {}
            }
        }
    }

    /// The broker does not want whoever this node says that it is.
    fn refused(&self) -> JoinError {
        let broker = self.settings.broker.to_string();
        match self.settings.broker.login {
            Some(_) => JoinError::BadLogin { broker },
            None => JoinError::BadToken { broker },
        }
    }

    // The queue has room for both of these, so neither can wait for the polling that it is part of.
    fn listen(&self) -> Result<(), JoinError> {
        let topic = Topic::JoinOut(self.session.clone()).to_string();
        self.client
            .try_subscribe(topic, QoS::AtLeastOnce)
            .map_err(|_| JoinError::Internal { attempt: "listen for the answer" })
    }

    fn ask(&mut self) -> Result<(), JoinError> {
        let topic = Topic::JoinIn(self.session.clone()).to_string();
        let request = std::mem::take(&mut self.request);
        self.client
            .try_publish(topic, QoS::AtLeastOnce, false, request)
            .map_err(|_| JoinError::Internal { attempt: "send the request" })
    }

    /// The controller's answer, if this is it.
    fn read(&self, topic: &[u8], payload: &[u8]) -> Option<Result<Identity, JoinError>> {
        if topic != Topic::JoinOut(self.session.clone()).to_string().as_bytes() {
            return None;
        }
        match codec::decode::<JoinReply>(payload) {
            Ok(JoinReply::Accepted { node, secret, controller_key, image_port, image_host }) => {
                Some(Ok(Identity { node, secret, controller_key, image_host, image_port }))
            }
            Ok(JoinReply::Refused { reason }) => Some(Err(JoinError::Refused { reason })),
            Err(error) => {
                tracing::warn!("an answer that cannot be read is passed over: {error}");
                None
            }
        }
    }
}
