//! How keys are spelled in the file: `kind/name`, so that a kind is a prefix.

use std::fmt;

use limpet_protocol::id::{ApplicationName, ContentName, NodeId};

use super::Revision;

/// What is kept, by kind. The kind is the key's first part, so a prefix is a kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// What people want. Writer: people, through the API.
    Application(ApplicationName),
    /// A node that joined. Writers: people (labels) and joining, by compare-and-set.
    Node(NodeId),
    /// What a node shall run. Writer: the control loop.
    Assignment(NodeId),
    /// How far the services of an application have come. Writer: the control loop.
    Progress(ApplicationName),
    /// An access or join token, by the SHA-256 of the token in hexadecimal.
    Token(String),
    /// The content of a config, by its id in hexadecimal.
    Config(String),
    /// A sealed secret, by its id in hexadecimal.
    Secret(String),
    /// Which content people call so. Writer: people.
    ConfigName(ContentName),
    /// Which secret people call so. Writer: people.
    SecretName(ContentName),
    /// The bytes of a spec that an assignment names or a rollback needs, by its hash. Writer: the
    /// control loop.
    Spec(String),
    /// How far the rollouts of an application are. Writer: the control loop.
    Rollout(ApplicationName),
    /// An earlier revision of an application: `name.revision`, see [`Key::history`]. Writer: people,
    /// through the API, together with the application itself.
    History(String),
    /// Something that only one service of the fleet can have: a port that every node forwards, a fixed
    /// address. Writer: people, through the API, together with the application itself.
    Claim(String),
    /// Which part of the fleet's addresses is a node's. Writer: the control loop.
    Subnet(NodeId),
}

/// Digits of a revision in a key: names then sort as revisions do.
const REVISION_DIGITS: usize = 20;

/// The kinds of keys, for lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// [`Key::Application`].
    Application,
    /// [`Key::Node`].
    Node,
    /// [`Key::Assignment`].
    Assignment,
    /// [`Key::Progress`].
    Progress,
    /// [`Key::Token`].
    Token,
    /// [`Key::Config`].
    Config,
    /// [`Key::Secret`].
    Secret,
    /// [`Key::ConfigName`].
    ConfigName,
    /// [`Key::SecretName`].
    SecretName,
    /// [`Key::Spec`].
    Spec,
    /// [`Key::Rollout`].
    Rollout,
    /// [`Key::History`].
    History,
    /// [`Key::Claim`].
    Claim,
    /// [`Key::Subnet`].
    Subnet,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 14] = [
        Self::Application,
        Self::Node,
        Self::Assignment,
        Self::Progress,
        Self::Token,
        Self::Config,
        Self::Secret,
        Self::ConfigName,
        Self::SecretName,
        Self::Spec,
        Self::Rollout,
        Self::History,
        Self::Claim,
        Self::Subnet,
    ];

    /// The kind as the file, the API and messages spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Node => "node",
            Self::Assignment => "assignment",
            Self::Progress => "progress",
            Self::Token => "token",
            Self::Config => "config",
            Self::Secret => "secret",
            Self::ConfigName => "config_name",
            Self::SecretName => "secret_name",
            Self::Spec => "spec",
            Self::Rollout => "rollout",
            Self::History => "history",
            Self::Claim => "claim",
            Self::Subnet => "subnet",
        }
    }

    /// The first and the first-no-more text of all keys of this kind (`0` follows `/`).
    pub(super) fn range(self) -> (String, String) {
        (format!("{}/", self.as_str()), format!("{}0", self.as_str()))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Key {
    /// The key of an earlier revision of an application.
    #[must_use]
    pub fn history(application: &ApplicationName, revision: Revision) -> Self {
        Self::History(format!("{application}.{:0REVISION_DIGITS$}", revision.0))
    }

    /// Which revision of an application it is, of a key of [`Key::History`].
    #[must_use]
    pub fn historic_revision(&self) -> Option<Revision> {
        let Self::History(name) = self else { return None };
        // Names of applications have no dots.
        name.split_once('.')?.1.parse().ok().map(Revision)
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Application(_) => Kind::Application,
            Self::Node(_) => Kind::Node,
            Self::Assignment(_) => Kind::Assignment,
            Self::Progress(_) => Kind::Progress,
            Self::Token(_) => Kind::Token,
            Self::Config(_) => Kind::Config,
            Self::Secret(_) => Kind::Secret,
            Self::ConfigName(_) => Kind::ConfigName,
            Self::SecretName(_) => Kind::SecretName,
            Self::Spec(_) => Kind::Spec,
            Self::Rollout(_) => Kind::Rollout,
            Self::History(_) => Kind::History,
            Self::Claim(_) => Kind::Claim,
            Self::Subnet(_) => Kind::Subnet,
        }
    }

    /// Its name within its kind.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Application(name) | Self::Progress(name) | Self::Rollout(name) => name.as_str(),
            Self::Node(node) | Self::Assignment(node) | Self::Subnet(node) => node.as_str(),
            Self::Token(name)
            | Self::Config(name)
            | Self::Secret(name)
            | Self::Spec(name)
            | Self::History(name)
            | Self::Claim(name) => name,
            Self::ConfigName(name) | Self::SecretName(name) => name.as_str(),
        }
    }

    /// As it is in the file.
    pub(super) fn to_text(&self) -> String {
        format!("{}/{}", self.kind(), self.name())
    }

    /// From how it is in the file; none if no version of Limpet that we know wrote it.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once('/')?;
        match kind {
            "application" => name.parse().ok().map(Self::Application),
            "node" => name.parse().ok().map(Self::Node),
            "assignment" => name.parse().ok().map(Self::Assignment),
            "progress" => name.parse().ok().map(Self::Progress),
            "token" => Some(Self::Token(name.to_owned())),
            "config" => Some(Self::Config(name.to_owned())),
            "secret" => Some(Self::Secret(name.to_owned())),
            "config_name" => name.parse().ok().map(Self::ConfigName),
            "secret_name" => name.parse().ok().map(Self::SecretName),
            "spec" => Some(Self::Spec(name.to_owned())),
            "rollout" => name.parse().ok().map(Self::Rollout),
            "history" => Some(Self::History(name.to_owned())),
            "claim" => Some(Self::Claim(name.to_owned())),
            "subnet" => name.parse().ok().map(Self::Subnet),
            _ => None,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_both_ways_and_stay_in_their_kind() {
        let keys = [
            Key::Application("shop".parse().unwrap()),
            Key::Node("n1".parse().unwrap()),
            Key::Assignment("n1".parse().unwrap()),
            Key::Progress("shop".parse().unwrap()),
            Key::Token("ab".to_owned()),
            Key::Config("cd".to_owned()),
            Key::Secret("ef".to_owned()),
            Key::ConfigName("nginx.conf".parse().unwrap()),
            Key::SecretName("Db-Password".parse().unwrap()),
            Key::Spec("cd".to_owned()),
            Key::Rollout("shop".parse().unwrap()),
            Key::history(&"shop".parse().unwrap(), Revision(7)),
            Key::Claim("tcp-8080".to_owned()),
            Key::Subnet("n1".parse().unwrap()),
        ];
        for (key, kind) in keys.iter().zip(Kind::ALL) {
            let text = key.to_text();
            assert_eq!(Key::from_text(&text).as_ref(), Some(key));
            for other in Kind::ALL {
                let (first, end) = other.range();
                assert_eq!(first <= text && text < end, other == kind, "{text} in {other}");
            }
        }
        let history = Key::history(&"shop".parse().unwrap(), Revision(7));
        assert_eq!(history.historic_revision(), Some(Revision(7)));
        for wrong in ["", "shop", "x/y", "application/", "node/A"] {
            assert_eq!(Key::from_text(wrong), None, "{wrong}");
        }
    }
}
