//! Who may connect to the embedded broker, and what each may say and hear.
//!
//! Four kinds of users: the controller (everything under Limpet's root), nodes (their own topics),
//! joining agents (the two topics of their session) and who measures (figures of one application). A client id is bound to its identity, so
//! that nobody takes over another's session. Everything else is refused.

use std::future::{Future, ready};
use std::net::SocketAddr;
use std::pin::Pin;

use limpet_protocol::id::{NodeId, SessionId};
use limpet_protocol::topic::{ROOT, Topic, may_subscribe};
use mqtt5::broker::{
    AuthProvider, AuthResult, BrokerEventHandler, ClientPublishEvent, PublishAction,
};
use mqtt5::packet::connect::ConnectPacket;
use mqtt5::packet::publish::PublishPacket;
use mqtt5::protocol::v5::reason_codes::ReasonCode;
use subtle::ConstantTimeEq;

use crate::auth;
use crate::store::Store;

use super::{
    CONTROLLER_USER, JOIN_CLIENT_PREFIX, JOIN_USER, Login, METRICS_CLIENT_PREFIX, METRICS_USER,
};

type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The broker's door.
pub(super) struct Access {
    store: Store,
    controller_password: String,
}

/// Who a client is.
enum Identity {
    Controller,
    Node(NodeId),
    Joining(SessionId),
    /// By the hash of its token, which says of which application, as long as it is valid.
    Measuring(String),
}

/// What the broker calls a client that measures: this and the hash of its token. No user name that a client
/// may give itself has a slash.
const MEASURING: &str = "metrics/";

impl Identity {
    /// From what the client says when it connects, which is to be checked.
    fn claimed(client_id: &str, user: &str, password: &str) -> Option<Self> {
        if user == METRICS_USER {
            let is_its = client_id.starts_with(METRICS_CLIENT_PREFIX);
            return is_its.then(|| Self::Measuring(auth::hash(password)));
        }
        if user.contains('/') { None } else { Self::of(client_id, Some(user)) }
    }

    /// From the user and client id that were checked when the client connected.
    fn of(client_id: &str, user: Option<&str>) -> Option<Self> {
        match user? {
            CONTROLLER_USER => (client_id == CONTROLLER_USER).then_some(Self::Controller),
            JOIN_USER => {
                let session = client_id.strip_prefix(JOIN_CLIENT_PREFIX)?;
                SessionId::new(session).ok().map(Self::Joining)
            }
            user if user.starts_with(MEASURING) => {
                user.strip_prefix(MEASURING).map(|hash| Self::Measuring(hash.to_owned()))
            }
            node if node == client_id => NodeId::new(node).ok().map(Self::Node),
            _ => None,
        }
    }

    fn may_publish(&self, store: &Store, topic: &str) -> bool {
        let Ok(topic) = topic.parse::<Topic>() else { return false };
        match self {
            Self::Controller => true,
            Self::Node(node) => topic.may_publish(node),
            Self::Joining(session) => topic == Topic::JoinIn(session.clone()),
            Self::Measuring(hash) => match topic {
                Topic::Metric(it) => {
                    auth::measures(store, hash).is_ok_and(|of| it.application == of)
                }
                _ => false,
            },
        }
    }

    fn may_subscribe(&self, filter: &str) -> bool {
        match self {
            Self::Controller => filter.strip_prefix(ROOT).is_some_and(|rest| rest.starts_with('/')),
            Self::Node(node) => may_subscribe(filter, node),
            Self::Joining(session) => filter.parse() == Ok(Topic::JoinOut(session.clone())),
            Self::Measuring(_) => false,
        }
    }
}

impl Access {
    pub(super) fn new(store: Store, controller: &Login) -> Self {
        Self { store, controller_password: controller.password.clone() }
    }

    /// The user's name if everything about the connection is right.
    fn admit(&self, connect: &ConnectPacket) -> Option<String> {
        let user = connect.username.as_deref()?;
        let password = std::str::from_utf8(connect.password.as_deref()?).ok()?;
        let identity = Identity::claimed(&connect.client_id, user, password)?;
        let known = match &identity {
            Identity::Controller => {
                self.controller_password.as_bytes().ct_eq(password.as_bytes()).into()
            }
            Identity::Node(node) => auth::verify_node(&self.store, node, password).is_ok(),
            Identity::Joining(_) => auth::verify_join(&self.store, password).is_ok(),
            Identity::Measuring(hash) => auth::measures(&self.store, hash).is_ok(),
        };
        let sound_will = match &connect.will {
            None => true,
            Some(will) => {
                identity.may_publish(&self.store, &will.topic) && may_be_retained(&will.topic)
            }
        };
        (known && sound_will).then(|| match identity {
            Identity::Measuring(hash) => format!("{MEASURING}{hash}"),
            _ => user.to_owned(),
        })
    }
}

impl AuthProvider for Access {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        client_addr: SocketAddr,
    ) -> Answer<'a, mqtt5::error::Result<AuthResult>> {
        let result = self.admit(connect).map_or_else(
            || {
                tracing::debug!(%client_addr, client = connect.client_id, "connection refused");
                AuthResult::fail(ReasonCode::NotAuthorized)
            },
            AuthResult::success_with_user,
        );
        Box::pin(ready(Ok(result)))
    }

    fn authorize_publish<'a>(
        &'a self,
        client_id: &str,
        user_id: Option<&'a str>,
        topic: &'a str,
    ) -> Answer<'a, bool> {
        let who = Identity::of(client_id, user_id);
        let may = who.is_some_and(|who| who.may_publish(&self.store, topic));
        Box::pin(ready(may))
    }

    fn authorize_subscribe<'a>(
        &'a self,
        client_id: &str,
        user_id: Option<&'a str>,
        topic_filter: &'a str,
    ) -> Answer<'a, bool> {
        let may =
            Identity::of(client_id, user_id).is_some_and(|who| who.may_subscribe(topic_filter));
        Box::pin(ready(may))
    }
}

fn may_be_retained(topic: &str) -> bool {
    topic.parse::<Topic>().is_ok_and(|topic| topic.is_retained())
}

/// The same message, not to be kept.
fn unkept(event: &ClientPublishEvent) -> PublishPacket {
    let mut packet = PublishPacket::new(&*event.topic, event.payload.clone(), event.qos);
    packet.packet_id = event.packet_id;
    packet
}

/// Drops retained messages where none belong: their number would have no bound, since a node may
/// speak on any number of call topics. Figures are passed on, but not kept: programs that measure often
/// ask for that, and nobody would know how old they are.
pub(super) struct NoStrayRetained;

impl BrokerEventHandler for NoStrayRetained {
    fn on_client_publish<'a>(&'a self, event: ClientPublishEvent) -> Answer<'a, PublishAction> {
        let stray = event.retain && !may_be_retained(&event.topic);
        let is_figure = || matches!(event.topic.parse(), Ok(Topic::Metric(..)));
        let action = match stray {
            false => PublishAction::Continue,
            true if is_figure() => PublishAction::Transform(unkept(&event)),
            true => PublishAction::Handled,
        };
        Box::pin(ready(action))
    }
}
