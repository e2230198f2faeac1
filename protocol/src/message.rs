//! The other messages: presence, joining, asking, and the signed envelope.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::byte_string;
use crate::id::{ContentId, NodeId, SpecHash};

/// Bytes with the controller's signature (Ed25519, RFC 8032, over [`Signed::signed_text`] or
/// [`Signed::secret_text`]).
///
/// Every assignment and every sealed secret travels in one: the broker is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// The encoded message.
    #[serde(rename = "p", with = "byte_string")]
    pub payload: Vec<u8>,
    /// 64 bytes.
    #[serde(rename = "s", with = "byte_string")]
    pub signature: Vec<u8>,
}

impl Signed {
    /// What the signature is over: a fixed prefix and the payload, so that nothing that the key
    /// ever signs for another purpose can pass as an assignment.
    #[must_use]
    pub fn signed_text(payload: &[u8]) -> Vec<u8> {
        [b"limpet/v1/want\0", payload].concat()
    }

    /// The same for a payload that is a [`SealedSecret`].
    #[must_use]
    pub fn secret_text(payload: &[u8]) -> Vec<u8> {
        [b"limpet/v1/secret\0", payload].concat()
    }
}

/// The content of a config (on [`crate::topic::Topic::Config`], which has its SHA-256).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigContent {
    /// The bytes of the file, as they are.
    #[serde(rename = "c", with = "byte_string")]
    pub content: Vec<u8>,
}

/// A secret on its way to one node (on [`crate::topic::Topic::Secret`], in a [`Signed`]).
///
/// The signature binds what nobody but the controller can know: which content is sealed in it. A
/// broker can neither read a secret nor put one in the place of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedSecret {
    /// For whom.
    #[serde(rename = "n")]
    pub node: NodeId,
    /// Which content.
    #[serde(rename = "c")]
    pub content: ContentId,
    /// The public key that it is sealed to, 32 bytes (X25519, RFC 7748).
    #[serde(rename = "k", with = "byte_string")]
    pub key: Vec<u8>,
    /// The secret, sealed (HPKE, RFC 9180): 32 bytes of the one-time key, then the cipher text.
    #[serde(rename = "b", with = "byte_string")]
    pub sealed: Vec<u8>,
}

/// The public key that secrets of a node are sealed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealKey {
    /// 32 bytes (X25519, RFC 7748).
    #[serde(rename = "k", with = "byte_string")]
    pub public: Vec<u8>,
    /// Proof that the node itself says so, whatever the broker is: HMAC-SHA256 (RFC 2104) of
    /// [`SealKey::proof_text`], keyed with the 32 bytes of SHA-256(the node's secret), which is all
    /// that the controller keeps of it.
    #[serde(rename = "p", with = "byte_string")]
    pub proof: Vec<u8>,
}

impl SealKey {
    /// What the proof is over.
    #[must_use]
    pub fn proof_text(node: &NodeId, public: &[u8]) -> Vec<u8> {
        [b"limpet/v1/seal-key\0", node.as_str().as_bytes(), b"\0", public].concat()
    }
}

/// The controller's presence (retained, with a will that says `online: false`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControllerPresence {
    /// Whether it is there.
    pub online: bool,
    /// Which life of its database.
    pub epoch: u64,
    /// Its public signing key, 32 bytes.
    #[serde(with = "byte_string")]
    pub key: Vec<u8>,
}

/// An agent's presence (retained, with a will that says `online: false`).
///
/// The will of an old session never beats the birth of a newer one: of two, the greater
/// (`boot`, `session`) is the true one, and within one session the will.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePresence {
    /// Whether it is there.
    #[serde(rename = "o")]
    pub online: bool,
    /// Which start of the node's kernel: seconds since 1970 would lie on a board without a clock,
    /// so the agent counts boots in its ledger.
    #[serde(rename = "b")]
    pub boot: u64,
    /// Which connection of that boot.
    #[serde(rename = "s")]
    pub session: u64,
    /// What the node is; left out of the will.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<NodeFacts>,
    /// Where its secrets are sealed to; left out of the will.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub key: Option<SealKey>,
    /// How other nodes reach it; left out of the will.
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    pub mesh: Option<Mesh>,
}

/// How a node is reached by other nodes (in its presence).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mesh {
    /// Its public key (X25519, RFC 7748; WireGuard), 32 bytes.
    #[serde(rename = "k", with = "byte_string")]
    pub key: Vec<u8>,
    /// Proof that the node itself says so, made as that of [`SealKey`], of
    /// [`Mesh::proof_text`].
    #[serde(rename = "p", with = "byte_string")]
    pub proof: Vec<u8>,
    /// Where it listens, the likeliest address first.
    #[serde(rename = "e")]
    pub endpoints: Vec<SocketAddr>,
}

impl Mesh {
    /// What the proof is over.
    #[must_use]
    pub fn proof_text(node: &NodeId, key: &[u8]) -> Vec<u8> {
        [b"limpet/v1/mesh-key\0", node.as_str().as_bytes(), b"\0", key].concat()
    }
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// The agent's version.
    pub agent_version: String,
    /// Its host name.
    pub hostname: String,
    /// As `GOOS` has it: `linux`.
    pub os: String,
    /// As `GOARCH` has it (OCI image specification): `amd64`, `arm64`, `arm`.
    pub architecture: String,
    /// As OCI has it: `v6`, `v7`, `v8`, or empty.
    #[serde(default)]
    pub variant: String,
    /// The kernel's release.
    pub kernel: String,
    /// CPUs that can be given out, in thousandths of one.
    pub cpu_millis: u32,
    /// Memory that can be given out, in bytes.
    pub memory_bytes: u64,
    /// Labels from the agent's own configuration.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What the node lacks and what that costs, for people (`limpet node ls`).
    #[serde(default)]
    pub conditions: Vec<String>,
    /// Paths of devices under `/dev` that containers can be given, in their order; none from agents
    /// that do not look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<Vec<String>>,
    /// Whether the agent fetches the images of what comes next and says when it has them
    /// ([`crate::report::Report::staged`]): updates wait for it.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub stages: bool,
}

/// An agent asks to join (on [`crate::topic::Topic::JoinIn`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// The name it would like.
    pub wanted: NodeId,
    /// What it is.
    pub facts: NodeFacts,
    /// Proof that it has a join token: HMAC-SHA256 (RFC 2104) of the session id of the topic, keyed
    /// with the 32 bytes of SHA-256(token), which is all that the controller keeps of a token.
    #[serde(with = "byte_string")]
    pub proof: Vec<u8>,
}

/// The controller's answer (on [`crate::topic::Topic::JoinOut`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JoinReply {
    /// Welcome.
    Accepted {
        /// The node's identity from now on; also its MQTT user name and client id.
        node: NodeId,
        /// Its MQTT password: 32 random bytes as hexadecimal. The controller keeps only a hash.
        secret: String,
        /// The controller's public signing key, 32 bytes, which the agent pins.
        #[serde(with = "byte_string")]
        controller_key: Vec<u8>,
        /// Port of the controller's HTTP server, where images are fetched; the host is the broker's
        /// unless `image_host` names another.
        image_port: u16,
        /// Host of the controller's HTTP server where it is not the broker's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        image_host: Option<String>,
    },
    /// No.
    Refused {
        /// Why.
        reason: String,
    },
}

/// An agent asks for what it lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Whether it wants its assignment published again.
    #[serde(default)]
    pub want: bool,
    /// Specs that it misses.
    #[serde(default)]
    pub specs: Vec<SpecHash>,
    /// Configs that it misses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub configs: Vec<ContentId>,
    /// Secrets that it misses, or cannot open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<ContentId>,
}
