//! Whose key it is: a MAC under what only the node and the controller have.

use limpet_protocol::id::NodeId;
use limpet_protocol::message::{Mesh, SealKey};
use ring::hmac;

/// A node's word for its public key. `digest` is the SHA-256 of the node's secret.
#[must_use]
pub fn prove(digest: &[u8; 32], node: &NodeId, public: &[u8]) -> SealKey {
    let tag = hmac::sign(&key(digest), &SealKey::proof_text(node, public));
    SealKey { public: public.to_vec(), proof: tag.as_ref().to_vec() }
}

/// Whether the node whose secret has this SHA-256 says that this is its key.
#[must_use]
pub fn is_proven(digest: &[u8; 32], node: &NodeId, told: &SealKey) -> bool {
    hmac::verify(&key(digest), &SealKey::proof_text(node, &told.public), &told.proof).is_ok()
}

/// A node's word for the key that other nodes know it by. `digest` is the SHA-256 of its secret.
#[must_use]
pub fn prove_mesh(digest: &[u8; 32], node: &NodeId, public: &[u8]) -> Vec<u8> {
    hmac::sign(&key(digest), &Mesh::proof_text(node, public)).as_ref().to_vec()
}

/// Whether the node whose secret has this SHA-256 says that other nodes know it by this key.
#[must_use]
pub fn is_mesh_proven(digest: &[u8; 32], node: &NodeId, told: &Mesh) -> bool {
    hmac::verify(&key(digest), &Mesh::proof_text(node, &told.key), &told.proof).is_ok()
}

fn key(digest: &[u8; 32]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, digest)
}
