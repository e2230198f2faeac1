//! How topics are spelled. Only this file knows.
//!
//! ```
//! use limpet_protocol::topic::Topic;
//! let node = "pi-7".parse().unwrap();
//! let topic = Topic::Want(node);
//! assert_eq!(topic.to_string(), "limpet/v1/n/pi-7/want");
//! assert_eq!("limpet/v1/n/pi-7/want".parse(), Ok(topic));
//! assert!("limpet/v2/n/pi-7/want".parse::<Topic>().is_err());
//! ```

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use crate::id::{ApplicationName, ContentId, MetricName, NodeId, ServiceName, SessionId, SpecHash};

/// Root and version of every topic.
pub const ROOT: &str = "limpet/v1";

/// A topic of Limpet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// The controller's presence. Retained.
    Controller,
    /// One immutable spec. Retained.
    Spec(SpecHash),
    /// The content of a config. Retained.
    Config(ContentId),
    /// A secret, sealed to a node's key. Retained.
    Secret(NodeId, ContentId),
    /// A node's assignment. Retained.
    Want(NodeId),
    /// A node's presence. Retained, will.
    Up(NodeId),
    /// A node's report. Retained.
    Have(NodeId),
    /// A node's events, QoS 1.
    Event(NodeId),
    /// Up to where the controller has a node's events, QoS 1.
    Ack(NodeId),
    /// A node asks for what it lacks, QoS 1.
    Ask(NodeId),
    /// From a caller to a node.
    CallIn(NodeId, SessionId),
    /// From a node to a caller.
    CallOut(NodeId, SessionId),
    /// From a joining agent.
    JoinIn(SessionId),
    /// To a joining agent.
    JoinOut(SessionId),
    /// A figure of a service, from whoever measures it: a number in text ([`crate::scale::published`]), QoS 0.
    Metric(Box<MetricTopic>),
}

/// Which figure of which service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MetricTopic {
    /// The application.
    pub application: ApplicationName,
    /// The service.
    pub service: ServiceName,
    /// The figure.
    pub name: MetricName,
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Controller => write!(f, "{ROOT}/ctl"),
            Self::Spec(hash) => write!(f, "{ROOT}/spec/{hash}"),
            Self::Config(id) => write!(f, "{ROOT}/config/{id}"),
            Self::Secret(node, id) => write!(f, "{ROOT}/n/{node}/secret/{id}"),
            Self::Want(node) => write!(f, "{ROOT}/n/{node}/want"),
            Self::Up(node) => write!(f, "{ROOT}/n/{node}/up"),
            Self::Have(node) => write!(f, "{ROOT}/n/{node}/have"),
            Self::Event(node) => write!(f, "{ROOT}/n/{node}/event"),
            Self::Ack(node) => write!(f, "{ROOT}/n/{node}/ack"),
            Self::Ask(node) => write!(f, "{ROOT}/n/{node}/ask"),
            Self::CallIn(node, session) => write!(f, "{ROOT}/n/{node}/call/{session}/in"),
            Self::CallOut(node, session) => write!(f, "{ROOT}/n/{node}/call/{session}/out"),
            Self::JoinIn(session) => write!(f, "{ROOT}/join/{session}/in"),
            Self::JoinOut(session) => write!(f, "{ROOT}/join/{session}/out"),
            Self::Metric(of) => {
                let MetricTopic { application, service, name } = &**of;
                write!(f, "{ROOT}/m/{application}/{service}/{name}")
            }
        }
    }
}

/// A topic that is none of Limpet's, or of a version that this program does not speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a topic of {ROOT}")]
pub struct UnknownTopic;

impl FromStr for Topic {
    type Err = UnknownTopic;

    fn from_str(text: &str) -> Result<Self, UnknownTopic> {
        let rest =
            text.strip_prefix(ROOT).and_then(|rest| rest.strip_prefix('/')).ok_or(UnknownTopic)?;
        let mut parts = rest.split('/');
        let mut part = || parts.next().unwrap_or_default();
        let words = [part(), part(), part(), part(), part()];
        if parts.next().is_some() {
            return Err(UnknownTopic);
        }
        let node = || NodeId::new(words[1]).map_err(|_| UnknownTopic);
        let session = |text| SessionId::new(text).map_err(|_| UnknownTopic);
        match words {
            ["ctl", "", "", "", ""] if !rest.contains('/') => Ok(Self::Controller),
            ["spec", hash, "", "", ""] => hash.parse().map(Self::Spec).map_err(|_| UnknownTopic),
            ["config", id, "", "", ""] => id.parse().map(Self::Config).map_err(|_| UnknownTopic),
            ["n", _, "secret", id, ""] => {
                Ok(Self::Secret(node()?, id.parse().map_err(|_| UnknownTopic)?))
            }
            ["n", _, "want", "", ""] => node().map(Self::Want),
            ["n", _, "up", "", ""] => node().map(Self::Up),
            ["n", _, "have", "", ""] => node().map(Self::Have),
            ["n", _, "event", "", ""] => node().map(Self::Event),
            ["n", _, "ack", "", ""] => node().map(Self::Ack),
            ["n", _, "ask", "", ""] => node().map(Self::Ask),
            ["n", _, "call", id, "in"] => Ok(Self::CallIn(node()?, session(id)?)),
            ["n", _, "call", id, "out"] => Ok(Self::CallOut(node()?, session(id)?)),
            ["join", id, "in", "", ""] => session(id).map(Self::JoinIn),
            ["join", id, "out", "", ""] => session(id).map(Self::JoinOut),
            ["m", application, service, name, ""] => metric(application, service, name),
            _ => Err(UnknownTopic),
        }
        .and_then(|topic| if ends_cleanly(text) { Ok(topic) } else { Err(UnknownTopic) })
    }
}

fn metric(application: &str, service: &str, name: &str) -> Result<Topic, UnknownTopic> {
    let application = application.parse().map_err(|_| UnknownTopic)?;
    let service = service.parse().map_err(|_| UnknownTopic)?;
    let name = name.parse().map_err(|_| UnknownTopic)?;
    Ok(Topic::Metric(Box::new(MetricTopic { application, service, name })))
}

/// A trailing slash would be an empty level that the words above cannot tell from a missing one.
fn ends_cleanly(text: &str) -> bool {
    !text.ends_with('/')
}

/// What the controller subscribes to: everything that nodes say.
#[must_use]
pub fn controller_filters() -> [String; 5] {
    [
        format!("{ROOT}/n/+/up"),
        format!("{ROOT}/n/+/have"),
        format!("{ROOT}/n/+/event"),
        format!("{ROOT}/n/+/ask"),
        format!("{ROOT}/join/+/in"),
    ]
}

/// The filter for the answers of every call that this controller makes.
#[must_use]
pub fn controller_call_filter() -> String {
    format!("{ROOT}/n/+/call/+/out")
}

/// What an agent subscribes to; specs, configs, secrets and metrics are subscribed one by one as
/// assignments name them.
#[must_use]
pub fn agent_filters(node: &NodeId) -> [String; 4] {
    [
        Topic::Controller.to_string_alloc(),
        Topic::Want(node.clone()).to_string_alloc(),
        Topic::Ack(node.clone()).to_string_alloc(),
        format!("{ROOT}/n/{node}/call/+/in"),
    ]
}

impl Topic {
    fn to_string_alloc(&self) -> String {
        format!("{self}")
    }

    /// Whether a node may publish here: only in its own name.
    #[must_use]
    pub fn may_publish(&self, node: &NodeId) -> bool {
        match self {
            Self::Up(n) | Self::Have(n) | Self::Event(n) | Self::Ask(n) | Self::CallOut(n, _) => {
                n == node
            }
            _ => false,
        }
    }

    /// Whether a message here must not be kept by the broker for later subscribers.
    #[must_use]
    pub fn is_retained(&self) -> bool {
        match self {
            Self::Controller
            | Self::Spec(_)
            | Self::Config(_)
            | Self::Secret(..)
            | Self::Want(_)
            | Self::Up(_)
            | Self::Have(_) => true,
            Self::Event(_)
            | Self::Ack(_)
            | Self::Ask(_)
            | Self::CallIn(..)
            | Self::CallOut(..)
            | Self::JoinIn(_)
            | Self::JoinOut(_)
            | Self::Metric(..) => false,
        }
    }
}

/// Whether a node may subscribe to a filter: its own topics, specs, configs and the controller's
/// presence.
///
/// A spec or config is readable only for who knows its hash; `spec/#` and `spec/+` are refused, and so are
/// wildcards for metrics. A secret is there for its node alone.
#[must_use]
pub fn may_subscribe(filter: &str, node: &NodeId) -> bool {
    if agent_filters(node).iter().any(|own| own == filter) {
        return true;
    }
    match filter.parse() {
        Ok(Topic::Spec(_) | Topic::Config(_) | Topic::Metric(..)) => true,
        Ok(Topic::Secret(owner, _)) => owner == *node,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn all() -> [Topic; 15] {
        let node: NodeId = "n1".parse().unwrap();
        let session: SessionId = "abc".parse().unwrap();
        [
            Topic::Controller,
            Topic::Spec(SpecHash([7; 32])),
            Topic::Config(ContentId([8; 32])),
            Topic::Secret(node.clone(), ContentId([9; 32])),
            Topic::Want(node.clone()),
            Topic::Up(node.clone()),
            Topic::Have(node.clone()),
            Topic::Event(node.clone()),
            Topic::Ack(node.clone()),
            Topic::Ask(node.clone()),
            Topic::CallIn(node.clone(), session.clone()),
            Topic::CallOut(node, session.clone()),
            Topic::JoinIn(session.clone()),
            Topic::JoinOut(session),
            "limpet/v1/m/shop/web.v2/jobs_open".parse().unwrap(),
        ]
    }

    #[test]
    fn every_topic_goes_both_ways() {
        for topic in all() {
            let text = topic.to_string();
            assert_eq!(text.parse(), Ok(topic), "{text}");
            assert!(text.matches('/').count() <= 7, "{text}");
            for wrong in [text.clone() + "/", text.clone() + "/x", text.replace("v1", "v9")] {
                assert_eq!(wrong.parse::<Topic>(), Err(UnknownTopic), "{wrong}");
            }
        }
    }

    #[test]
    fn a_node_speaks_and_hears_only_for_itself() {
        let (me, other): (NodeId, NodeId) = ("n1".parse().unwrap(), "n2".parse().unwrap());
        let mine = all().iter().filter(|topic| topic.may_publish(&me)).count();
        assert_eq!(mine, 5);
        assert_eq!(all().iter().filter(|topic| topic.may_publish(&other)).count(), 0);
        for filter in agent_filters(&me) {
            assert!(may_subscribe(&filter, &me), "{filter}");
        }
        let secret = Topic::Secret(me.clone(), ContentId([1; 32]));
        assert!(may_subscribe(&secret.to_string(), &me));
        assert!(may_subscribe(&Topic::Config(ContentId([1; 32])).to_string(), &me));
        let others = Topic::Secret(other, ContentId([1; 32])).to_string();
        for filter in [
            others.as_str(),
            "limpet/v1/n/n2/secret/+",
            "limpet/v1/config/+",
            "#",
            "limpet/v1/#",
            "limpet/v1/spec/+",
            "limpet/v1/n/n2/want",
            "limpet/v1/n/+/want",
            "limpet/v1/m/#",
            "limpet/v1/m/shop/web/+",
            "limpet/v1/m/shop/web",
            "$SYS/#",
        ] {
            assert!(!may_subscribe(filter, &me), "{filter}");
        }
    }
}
