//! What a project says of its configs and secrets: which there are, and where their content is.

use std::fmt;
use std::path::PathBuf;

use limpet_protocol::id::ContentName;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContentKind {
    /// Everybody may read it.
    Config,
    /// Nobody else may.
    Secret,
}

impl ContentKind {
    /// The key of a Compose file that has them; also how the controller's API calls them.
    #[must_use]
    pub const fn section(self) -> &'static str {
        match self {
            Self::Config => "configs",
            Self::Secret => "secrets",
        }
    }

    /// Where they are in a container that says nothing else.
    pub(crate) const fn folder(self) -> &'static str {
        match self {
            Self::Config => "/",
            Self::Secret => "/run/secrets/",
        }
    }
}

impl fmt::Display for ContentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Config => "config",
            Self::Secret => "secret",
        })
    }
}

/// A config or secret that services use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentSource {
    /// Which of the two.
    pub kind: ContentKind,
    /// Its name in the file, and in the mounts of the services.
    pub name: String,
    /// Where its content is.
    pub from: ContentFrom,
}

/// Where a content is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContentFrom {
    /// In a file of this machine.
    File(PathBuf),
    /// Here: the value of a variable, or what the file says itself.
    Text(Hidden),
    /// With the controller, under a name.
    External(ContentName),
}

/// A text that is not printed by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(String);

impl Hidden {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text. Whoever asks must not print it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden(..)")
    }
}
