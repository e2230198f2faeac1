//! Who may connect to the embedded broker, and what each may say and hear.
//!
//! Three kinds of users: the controller (everything under Limpet's root), nodes (their own topics)
//! and joining agents (the two topics of their session). A client id is bound to its identity, so
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
use mqtt5::protocol::v5::reason_codes::ReasonCode;
use subtle::ConstantTimeEq;

use crate::auth;
use crate::store::Store;

use super::{CONTROLLER_USER, JOIN_CLIENT_PREFIX, JOIN_USER, Login};

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
}

impl Identity {
    /// From the user and client id that were checked when the client connected.
    fn of(client_id: &str, user: Option<&str>) -> Option<Self> {
        match user? {
            CONTROLLER_USER => (client_id == CONTROLLER_USER).then_some(Self::Controller),
            JOIN_USER => {
                let session = client_id.strip_prefix(JOIN_CLIENT_PREFIX)?;
                SessionId::new(session).ok().map(Self::Joining)
            }
            node if node == client_id => NodeId::new(node).ok().map(Self::Node),
            _ => None,
        }
    }

    fn may_publish(&self, topic: &str) -> bool {
        let Ok(topic) = topic.parse::<Topic>() else { return false };
        match self {
            Self::Controller => true,
            Self::Node(node) => topic.may_publish(node),
            Self::Joining(session) => topic == Topic::JoinIn(session.clone()),
        }
    }

    fn may_subscribe(&self, filter: &str) -> bool {
        match self {
            Self::Controller => filter.strip_prefix(ROOT).is_some_and(|rest| rest.starts_with('/')),
            Self::Node(node) => may_subscribe(filter, node),
            Self::Joining(session) => filter.parse() == Ok(Topic::JoinOut(session.clone())),
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
        let identity = Identity::of(&connect.client_id, Some(user))?;
        let known = match &identity {
            Identity::Controller => {
                self.controller_password.as_bytes().ct_eq(password.as_bytes()).into()
            }
            Identity::Node(node) => auth::verify_node(&self.store, node, password).is_ok(),
            Identity::Joining(_) => auth::verify_join(&self.store, password).is_ok(),
        };
        let sound_will = match &connect.will {
            None => true,
            Some(will) => identity.may_publish(&will.topic) && may_be_retained(&will.topic),
        };
        (known && sound_will).then(|| user.to_owned())
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
        let may = Identity::of(client_id, user_id).is_some_and(|who| who.may_publish(topic));
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

/// Drops retained messages where none belong: their number would have no bound, since a node may
/// speak on any number of call topics.
pub(super) struct NoStrayRetained;

impl BrokerEventHandler for NoStrayRetained {
    fn on_client_publish<'a>(&'a self, event: ClientPublishEvent) -> Answer<'a, PublishAction> {
        let stray = event.retain && !may_be_retained(&event.topic);
        Box::pin(ready(if stray { PublishAction::Handled } else { PublishAction::Continue }))
    }
}
