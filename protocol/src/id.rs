//! Names, each a type of its own, checked once where they come in.
//!
//! All of them live in fixed-size buffers ([`heapless::String`]): a name that is too long cannot
//! be represented, so no decoder can be made to allocate by one.

use core::fmt;
use core::str::FromStr;

use heapless::String;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("a name must not be empty")]
    Empty,
    /// More than the kind of name may have.
    #[error("longer than {max} characters")]
    TooLong {
        /// How many characters this kind of name may have.
        max: usize,
    },
    /// A character that this kind of name may not have there.
    #[error("character {character:?} is not allowed at position {position}; {rule}")]
    BadCharacter {
        /// The character.
        character: char,
        /// Where, counted from 0.
        position: usize,
        /// What is allowed.
        rule: &'static str,
    },
    /// The parts of a composed name are not there.
    #[error("expected {expected}")]
    BadShape {
        /// What the text should look like.
        expected: &'static str,
    },
}

fn check(
    text: &str,
    max: usize,
    rule: &'static str,
    legal: fn(usize, char) -> bool,
) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > max {
        return Err(NameError::TooLong { max });
    }
    match text.chars().enumerate().find(|&(position, character)| !legal(position, character)) {
        Some((position, character)) => Err(NameError::BadCharacter { character, position, rule }),
        None => Ok(()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $max:literal, $rule:literal, $legal:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String<$max>);

        impl $name {
            /// How many characters this name may have.
            pub const MAX: usize = $max;

            /// Checks a text and makes it a name.
            ///
            /// # Errors
            /// [`NameError`] says what is wrong with it.
            pub fn new(text: &str) -> Result<Self, NameError> {
                check(text, $max, $rule, $legal)?;
                String::try_from(text).map(Self).map_err(|_| NameError::TooLong { max: $max })
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::<$max>::deserialize(deserializer)?;
                check(&text, $max, $rule, $legal).map_err(D::Error::custom)?;
                Ok(Self(text))
            }
        }
    };
}

const LOWER_RULE: &str =
    "use lower-case letters, digits, '-' and '_', beginning with a letter or digit";
fn compose_name(position: usize, c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || (position > 0 && (c == '-' || c == '_'))
}
fn service_name(position: usize, c: char) -> bool {
    c.is_ascii_alphanumeric() || (position > 0 && (c == '-' || c == '_' || c == '.'))
}
fn node_name(position: usize, c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || (position > 0 && c == '-')
}
fn token_character(_: usize, c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

name!(
    /// The name of an application: a Compose project name (Compose Specification, "name").
    ApplicationName, 63, "use lower-case letters, digits, '-' and '_', beginning with a letter or digit", compose_name
);
name!(
    /// The name of a service within its application (Compose Specification, "services").
    ServiceName, 63, "use letters, digits, '-', '_' and '.', beginning with a letter or digit", service_name
);
name!(
    /// The identity of a node: its host name at the time it joined, made unique by the controller.
    NodeId, 63, "use lower-case letters, digits and '-', beginning with a letter or digit", node_name
);
name!(
    /// The name under which people keep a config or secret (`external` in a Compose file).
    ContentName, 64, "use letters, digits, '-', '_' and '.', beginning with a letter or digit", service_name
);
name!(
    /// The name of a network of containers, the same on all nodes: `PROJECT_NETWORK`, or what the Compose
    /// file says with `name`.
    NetworkName, 127, "use letters, digits, '-', '_' and '.', beginning with a letter or digit", service_name
);
name!(
    /// The identity of one call, one join or one session: random lower-case letters and digits.
    SessionId, 32, "use lower-case letters and digits", token_character
);

name!(
    /// The name of a figure that is published on a topic (`topic` of `x-autoscale`).
    MetricName, 63, "use letters, digits, '-', '_' and '.', beginning with a letter or digit", service_name
);

impl NodeId {
    /// The nearest legal node name to any host name: lower case, other characters become `-`.
    #[must_use]
    pub fn from_host_name(host_name: &str) -> Option<Self> {
        let mut text: String<63> = String::new();
        for c in host_name.chars() {
            let c = c.to_ascii_lowercase();
            let c = if node_name(1, c) { c } else { '-' };
            if (text.is_empty() && c == '-') || text.push(c).is_err() {
                continue;
            }
        }
        Self::new(text.trim_end_matches('-')).ok()
    }
}

impl ApplicationName {
    /// The rule that the name keeps, for messages.
    pub const RULE: &'static str = LOWER_RULE;
}

/// The place of one instance among the replicas of its service, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slot(pub u32);

impl Slot {
    /// Greatest slot that may have others beside it.
    pub const MAX_HOME: u32 = 999;
    /// Most slots beside one.
    pub const MAX_BESIDE: u32 = 999;
    /// What the number of a slot grows by for each of the slots before it.
    const STRIDE: u32 = 1000;

    /// The `count`-th slot, from 1, that a node adds beside one that was placed on it, of a service that
    /// is scaled on each node by itself ([`crate::scale::Per::Node`]). No other slot has its number, so
    /// no two nodes have instances of one name. None if either is out of bounds.
    ///
    /// ```
    /// use limpet_protocol::id::Slot;
    /// assert_eq!(Slot(1).beside(2), Some(Slot(1002)));
    /// assert_eq!(Slot(1002).home(), (Slot(1), 2));
    /// assert_eq!(Slot(7).home(), (Slot(7), 0));
    /// assert_eq!((Slot(1000).beside(1), Slot(1).beside(1000)), (None, None));
    /// ```
    #[must_use]
    pub const fn beside(self, count: u32) -> Option<Self> {
        let home = self.0;
        if home == 0 || home > Self::MAX_HOME || count == 0 || count > Self::MAX_BESIDE {
            return None;
        }
        Some(Self(home * Self::STRIDE + count))
    }

    /// The slot that this one is beside, and the how many-th it is there: 0 is that slot itself. Says
    /// so only of services that are scaled on each node by itself: others have plain slots with any
    /// number.
    #[must_use]
    pub const fn home(self) -> (Self, u32) {
        if self.0 < Self::STRIDE {
            return (self, 0);
        }
        (Self(self.0 / Self::STRIDE), self.0 % Self::STRIDE)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// One container of a service on a node: `application.service.slot`.
///
/// ```
/// use limpet_protocol::id::InstanceId;
/// let id: InstanceId = "shop.web.2".parse().unwrap();
/// assert_eq!((id.application.as_str(), id.service.as_str(), id.slot.0), ("shop", "web", 2));
/// assert_eq!(id.to_string(), "shop.web.2");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstanceId {
    /// The application.
    #[serde(rename = "a")]
    pub application: ApplicationName,
    /// The service.
    #[serde(rename = "s")]
    pub service: ServiceName,
    /// Which replica.
    #[serde(rename = "n")]
    pub slot: Slot,
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.application, self.service, self.slot)
    }
}

impl FromStr for InstanceId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        const SHAPE: NameError = NameError::BadShape { expected: "application.service.slot" };
        let (application, rest) = text.split_once('.').ok_or(SHAPE)?;
        let (service, slot) = rest.rsplit_once('.').ok_or(SHAPE)?;
        Ok(Self {
            application: application.parse()?,
            service: service.parse()?,
            slot: Slot(slot.parse().map_err(|_| SHAPE)?),
        })
    }
}

macro_rules! digest {
    ($(#[$doc:meta])* $name:ident) => {
$(#[$doc])*
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct $name(pub [u8; 32]);

impl fmt::Display for $name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
impl fmt::Debug for $name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({self})", stringify!($name))
    }
}
impl FromStr for $name {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        const SHAPE: NameError =
            NameError::BadShape { expected: "64 lower-case hexadecimal digits" };
        if text.len() != 64
            || !text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        {
            return Err(SHAPE);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = core::str::from_utf8(pair).map_err(|_| SHAPE)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| SHAPE)?;
        }
        Ok(Self(bytes))
    }
}
impl Serialize for $name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}
impl<'de> Deserialize<'de> for $name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::<64>::deserialize(deserializer)?;
            return text.parse().map_err(D::Error::custom);
        }
        struct Bytes;
        impl serde::de::Visitor<'_> for Bytes {
            type Value = $name;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("32 bytes")
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<$name, E> {
                <[u8; 32]>::try_from(bytes)
                    .map($name)
                    .map_err(|_| E::invalid_length(bytes.len(), &self))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}
    };
}

digest!(
    /// The SHA-256 of a spec's bytes: its name on the wire and in the ledger.
    SpecHash
);
digest!(
    /// Which content of a config or secret: of a config the SHA-256 of its bytes, of a secret an
    /// HMAC-SHA256 of them under a key of the controller's, so that the id tells nothing of them.
    ContentId
);

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn names_are_checked() {
        assert!(ApplicationName::new("shop-1_a").is_ok());
        assert_eq!(ApplicationName::new(""), Err(NameError::Empty));
        assert!(matches!(
            ApplicationName::new("-a"),
            Err(NameError::BadCharacter { position: 0, .. })
        ));
        assert!(matches!(ApplicationName::new("Shop"), Err(NameError::BadCharacter { .. })));
        assert!(matches!(NodeId::new("a/b"), Err(NameError::BadCharacter { character: '/', .. })));
        assert_eq!(NodeId::new(&"a".repeat(64)), Err(NameError::TooLong { max: 63 }));
    }

    #[test]
    fn host_names_become_node_names() {
        for (host, node) in [("Pump 7.site", "pump-7-site"), ("--x--", "x"), ("pi", "pi")] {
            assert_eq!(NodeId::from_host_name(host).unwrap().as_str(), node);
        }
        assert_eq!(NodeId::from_host_name("..."), None);
    }

    #[test]
    fn a_service_name_may_have_dots() {
        let id: InstanceId = "shop.web.v1.3".parse().unwrap();
        assert_eq!((id.service.as_str(), id.slot.0), ("web.v1", 3));
        assert_eq!(id.to_string(), "shop.web.v1.3");
        assert!("shop.web".parse::<InstanceId>().is_err());
    }

    #[test]
    fn a_hash_goes_both_ways() {
        let hash = SpecHash([0xab; 32]);
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert!("zz".parse::<SpecHash>().is_err());
    }
}
