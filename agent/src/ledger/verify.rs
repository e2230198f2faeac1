//! What is believed: an assignment that the controller signed for this node, a spec that is what its
//! name says.
//!
//! In: bytes that anybody may have written. Out: what they say, or why they are refused.

use std::collections::BTreeSet;

use limpet_protocol::assignment::{Assignment, Generation};
use limpet_protocol::codec::{self, CodecError};
use limpet_protocol::id::{ContentId, NodeId, SpecHash};
use limpet_protocol::limits::{
    MAX_CONTENT_BYTES, MAX_CONTENT_BYTES_PER_NODE, MAX_INSTANCES_PER_NODE, MAX_SPEC_BYTES,
};
use limpet_protocol::message::{ConfigContent, SealedSecret, Signed};
use limpet_protocol::spec::Spec;
use ring::signature::{ED25519, UnparsedPublicKey};
use sha2::{Digest as _, Sha256};

/// Why an assignment, a spec, a config or a secret is not believed.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Not the bytes of a message.
    #[error("it cannot be decoded: {0}")]
    Undecodable(CodecError),
    /// Not signed by the controller whose key this node pinned when it joined.
    #[error("it is not signed by the controller that this node joined")]
    BadSignature,
    /// Meant for another.
    #[error("it is for node {node}")]
    OtherNode {
        /// For whom.
        node: NodeId,
    },
    /// Not newer than what the node has.
    #[error("its generation {}.{} is older than {}.{}, which this node has", got.epoch, got.number, have.epoch, have.number)]
    Older {
        /// Its place.
        got: Generation,
        /// The place of what the node has.
        have: Generation,
    },
    /// More instances than a node may have.
    #[error("it has more than {MAX_INSTANCES_PER_NODE} instances")]
    TooManyInstances,
    /// Says the same twice.
    #[error("it names an instance of {application}.{service} twice")]
    Twice {
        /// Of which application.
        application: String,
        /// Which service.
        service: String,
    },
    /// Bytes that are not what their name says.
    #[error("its bytes are not those of its hash")]
    WrongHash,
    /// More configs and secrets than a node holds.
    #[error(
        "its configs and secrets have more than {MAX_CONTENT_BYTES_PER_NODE} bytes; put large files into the image or a volume"
    )]
    TooMuchContent,
    /// A secret that is another's.
    #[error("it is not the secret that its name says")]
    OtherSecret,
    /// A secret that this node cannot open.
    #[error("it is sealed to a key that this node does not have")]
    OtherKey,
    /// A spec that is another service's.
    #[error("the spec of {application}.{service} is that of another service")]
    OtherService {
        /// Of which application.
        application: String,
        /// Which service.
        service: String,
    },
}

impl Refusal {
    /// A word for the kind of cause: one event tells of it, not one for every message.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Undecodable(_) => "undecodable",
            Self::BadSignature => "signature",
            Self::OtherNode { .. } => "node",
            Self::Older { .. } => "older",
            Self::TooManyInstances => "instances",
            Self::Twice { .. } => "twice",
            Self::WrongHash => "hash",
            Self::OtherService { .. } => "service",
            Self::TooMuchContent => "content",
            Self::OtherSecret => "secret",
            Self::OtherKey => "key",
        }
    }
}

/// Opens a signed assignment.
///
/// # Errors
/// [`Refusal`] says why it is not believed.
pub fn open_assignment(bytes: &[u8], key: &[u8], node: &NodeId) -> Result<Assignment, Refusal> {
    let payload = open_signed(bytes, key, Signed::signed_text)?;
    let assignment: Assignment = codec::decode(&payload).map_err(Refusal::Undecodable)?;
    if assignment.node != *node {
        return Err(Refusal::OtherNode { node: assignment.node });
    }
    let mut instances = BTreeSet::new();
    for service in &assignment.services {
        for slot in &service.slots {
            if !instances.insert((&service.application, &service.service, slot)) {
                return Err(Refusal::Twice {
                    application: service.application.to_string(),
                    service: service.service.to_string(),
                });
            }
        }
    }
    if instances.len() > MAX_INSTANCES_PER_NODE {
        return Err(Refusal::TooManyInstances);
    }
    Ok(assignment)
}

/// The payload of an envelope whose signature, over what `text` makes of it, is the controller's.
fn open_signed(bytes: &[u8], key: &[u8], text: fn(&[u8]) -> Vec<u8>) -> Result<Vec<u8>, Refusal> {
    let signed: Signed = codec::decode(bytes).map_err(Refusal::Undecodable)?;
    UnparsedPublicKey::new(&ED25519, key)
        .verify(&text(&signed.payload), &signed.signature)
        .map_err(|_| Refusal::BadSignature)?;
    Ok(signed.payload)
}

/// Checks the content of a config.
///
/// # Errors
/// [`Refusal`] says why it is not believed.
pub fn check_config(id: &ContentId, bytes: &[u8]) -> Result<(), Refusal> {
    let config: ConfigContent = codec::decode(bytes).map_err(Refusal::Undecodable)?;
    let fits = config.content.len() <= MAX_CONTENT_BYTES;
    let hash: [u8; 32] = Sha256::digest(&config.content).into();
    if fits && hash == id.0 { Ok(()) } else { Err(Refusal::WrongHash) }
}

/// Checks a sealed secret without opening it; gives the public key that it is sealed to.
///
/// # Errors
/// [`Refusal`] says why it is not believed.
pub fn check_secret(
    id: &ContentId,
    bytes: &[u8],
    key: &[u8],
    node: &NodeId,
) -> Result<Vec<u8>, Refusal> {
    let payload = open_signed(bytes, key, Signed::secret_text)?;
    let secret: SealedSecret = codec::decode(&payload).map_err(Refusal::Undecodable)?;
    if secret.node != *node {
        return Err(Refusal::OtherNode { node: secret.node });
    }
    if secret.content != *id {
        return Err(Refusal::OtherSecret);
    }
    Ok(secret.key)
}

/// The hash of a spec's bytes.
#[must_use]
pub fn spec_hash(bytes: &[u8]) -> SpecHash {
    SpecHash(Sha256::digest(bytes).into())
}

/// Opens a spec that should have this hash.
///
/// # Errors
/// [`Refusal`] says why it is not believed.
pub fn check_spec(hash: &SpecHash, bytes: &[u8]) -> Result<Spec, Refusal> {
    if spec_hash(bytes) != *hash {
        return Err(Refusal::WrongHash);
    }
    codec::decode_within(bytes, MAX_SPEC_BYTES).map_err(Refusal::Undecodable)
}
