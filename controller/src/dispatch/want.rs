//! What travels to a node: specs named by their hash, and signed assignments.

use std::collections::BTreeMap;

use bytes::Bytes;
use limpet_protocol::application::Application;
use limpet_protocol::assignment::Assignment;
use limpet_protocol::codec::{self, CodecError};
use limpet_protocol::id::{ServiceName, SpecHash};
use limpet_protocol::limits::{MAX_PAYLOAD_BYTES, MAX_SPEC_BYTES};
use limpet_protocol::message::{ControllerPresence, Signed};
use limpet_protocol::spec::Spec;
use sha2::{Digest, Sha256};

use crate::rollout::{dependencies_first, following};
use crate::store::Identity;

/// Room for the signature and the names around a signed payload.
const ENVELOPE_BYTES: usize = 128;

/// A spec's bytes and its name, the SHA-256 of them.
///
/// # Errors
/// [`CodecError::TooLarge`] if no node would take it.
pub fn encode_spec(spec: &Spec) -> Result<(SpecHash, Bytes), CodecError> {
    let bytes = codec::encode_within(spec, MAX_SPEC_BYTES)?;
    Ok((SpecHash(Sha256::digest(&bytes).into()), Bytes::from(bytes)))
}

/// The names of the specs of an application's services, as [`encode_spec`] gives them; none of one
/// that no node would take.
#[must_use]
pub fn specs_of(application: &Application) -> BTreeMap<ServiceName, Option<SpecHash>> {
    let mut specs = BTreeMap::new();
    for name in dependencies_first(&application.services) {
        let Some(service) = application.services.get(name) else { continue };
        let hash = encode_spec(&following(service, &specs)).ok().map(|(hash, _)| hash);
        specs.insert(name.clone(), hash);
    }
    specs
}

/// An assignment with the controller's signature.
///
/// # Errors
/// [`CodecError::TooLarge`] if it does not fit in a message.
pub fn sign(identity: &Identity, assignment: &Assignment) -> Result<Bytes, CodecError> {
    let payload = codec::encode(assignment)?;
    let signature = identity.sign(&Signed::signed_text(&payload));
    codec::encode(&Signed { payload, signature }).map(Bytes::from)
}

/// An assignment that fits in a message, with fewer peers if it must: a node then reaches some services
/// on fewer nodes, and still hears what it shall run.
#[must_use]
pub fn fit(mut assignment: Assignment) -> Assignment {
    while let Some(network) = assignment.network.as_mut().filter(|it| !it.peers.is_empty()) {
        let peers = network.peers.len();
        // The envelope is small and of one size.
        let most = MAX_PAYLOAD_BYTES - ENVELOPE_BYTES;
        let bytes = codec::encode_within(&assignment, most);
        if bytes.is_ok_and(|bytes| codec::check(&bytes).is_ok()) {
            break;
        }
        tracing::warn!(node = %assignment.node, peers, "too many peers for a message: half of them go");
        if let Some(network) = &mut assignment.network {
            network.peers.truncate(peers / 2);
        }
    }
    assignment
}

/// The controller's presence.
///
/// # Errors
/// None that can happen: it is small.
pub fn presence(identity: &Identity, online: bool) -> Result<Bytes, CodecError> {
    let key = identity.public_key().to_vec();
    codec::encode(&ControllerPresence { online, epoch: identity.epoch(), key }).map(Bytes::from)
}
