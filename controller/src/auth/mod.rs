//! Who may do what: tokens of people, join tokens, secrets of nodes.
//!
//! In: what somebody showed. Out: whether it opens the door. The store has SHA-256 hashes only; a
//! token or secret is 32 random bytes, so a hash needs neither salt nor stretching.

pub mod admin;
pub mod attempts;

use limpet_protocol::codec;
use limpet_protocol::id::{ApplicationName, NodeId, SessionId};
use limpet_protocol::message::{Mesh, SealKey};
use ring::{digest, hmac};
use subtle::ConstantTimeEq;

use crate::clock::now_ms;
use crate::store::records::{NodeRecord, TokenPurpose, TokenRecord};
use crate::store::{Key, Kind, Store, StoreError};

/// Most tokens at a time: a proof of joining is compared with each of them.
pub const MAX_TOKENS: usize = 1_000;
/// How many digits of its hash name a token.
pub const TOKEN_ID_DIGITS: usize = 12;

/// Why a door stays shut.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// Nobody has this token or secret, or it is for another door.
    #[error("{what} is not valid")]
    Unknown {
        /// What was shown: `the token`, `the secret of node n1`.
        what: String,
    },
    /// Its time is over.
    #[error("the token has expired; make a new one with `limpet token create`")]
    Expired,
    /// The store cannot be read.
    #[error("cannot check {what} now")]
    Store {
        /// What was shown.
        what: String,
        /// Why not.
        #[source]
        source: StoreError,
    },
    /// The system gives no random bytes.
    #[error("cannot make a token: the system gives no random bytes")]
    Random,
}

/// The SHA-256 of a token or secret in hexadecimal, as the store keeps it.
#[must_use]
pub fn hash(secret: &str) -> String {
    hex(digest::digest(&digest::SHA256, secret.as_bytes()).as_ref())
}

/// A new token or secret: 32 random bytes in hexadecimal.
///
/// # Errors
/// [`AuthError::Random`] if the system gives none.
pub fn make_secret() -> Result<String, AuthError> {
    use ring::rand::{SecureRandom, SystemRandom};
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| AuthError::Random)?;
    Ok(hex(&bytes))
}

/// The name of the token with this hash, for people.
#[must_use]
pub fn token_id(hash: &str) -> &str {
    hash.get(..TOKEN_ID_DIGITS).unwrap_or(hash)
}

/// Whether a bearer token opens the API.
///
/// # Errors
/// [`AuthError`] if it does not.
pub fn verify_admin(store: &Store, bearer: &str) -> Result<(), AuthError> {
    verify_token(store, &hash(bearer), |purpose| (*purpose == TokenPurpose::Admin).then_some(()))
}

/// Whether a token lets a node join.
///
/// # Errors
/// [`AuthError`] if it does not.
pub fn verify_join(store: &Store, token: &str) -> Result<(), AuthError> {
    verify_token(store, &hash(token), |purpose| (*purpose == TokenPurpose::Join).then_some(()))
}

/// Of which application somebody may publish figures, by the hash of a token.
///
/// # Errors
/// [`AuthError`] if of none.
pub fn measures(store: &Store, hash: &str) -> Result<ApplicationName, AuthError> {
    verify_token(store, hash, |purpose| match purpose {
        TokenPurpose::Metrics(application) => Some(application.clone()),
        _ => None,
    })
}

fn verify_token<T>(
    store: &Store,
    hash: &str,
    opens: impl FnOnce(&TokenPurpose) -> Option<T>,
) -> Result<T, AuthError> {
    let what = || "the token".to_owned();
    let unknown = || AuthError::Unknown { what: what() };
    // Looking up by the hash tells nothing about the token through time.
    let entry = store.get(&Key::Token(hash.to_owned()));
    let entry = entry.map_err(|source| AuthError::Store { what: what(), source })?;
    let record = entry.and_then(|entry| codec::decode::<TokenRecord>(&entry.value).ok());
    let record = record.ok_or_else(unknown)?;
    let opened = opens(&record.purpose).ok_or_else(unknown)?;
    if is_expired(&record) { Err(AuthError::Expired) } else { Ok(opened) }
}

fn is_expired(record: &TokenRecord) -> bool {
    record.expires_ms.is_some_and(|end| end <= now_ms())
}

/// Whether a proof was made with a join token that is valid now: HMAC-SHA256 of the session's id,
/// keyed with the 32 bytes of SHA-256(token). See [`limpet_protocol::message::JoinRequest`].
///
/// # Errors
/// [`AuthError`] if it was not.
pub fn verify_join_proof(
    store: &Store,
    session: &SessionId,
    proof: &[u8],
) -> Result<(), AuthError> {
    let what = || "the proof of a join token".to_owned();
    let tokens = store.list(Kind::Token);
    let (_, tokens) = tokens.map_err(|source| AuthError::Store { what: what(), source })?;
    let mut expired = false;
    for (key, entry) in tokens {
        let Ok(record) = codec::decode::<TokenRecord>(&entry.value) else { continue };
        let Some(secret) = bytes_of_hex(key.name()) else { continue };
        if record.purpose != TokenPurpose::Join {
            continue;
        }
        let mac = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        if hmac::verify(&mac, session.as_str().as_bytes(), proof).is_ok() {
            if !is_expired(&record) {
                return Ok(());
            }
            expired = true;
        }
    }
    Err(if expired { AuthError::Expired } else { AuthError::Unknown { what: what() } })
}

/// Whether a node itself says that its secrets are to be sealed to this key.
#[must_use]
pub fn verify_seal_key(record: &NodeRecord, key: &SealKey) -> bool {
    bytes_of_hex(&record.secret_sha256)
        .is_some_and(|digest| limpet_seal::is_proven(&digest, &record.node, key))
}

/// Whether a node itself says that other nodes know it by this key.
#[must_use]
pub fn verify_mesh(record: &NodeRecord, mesh: &Mesh) -> bool {
    mesh.key.len() == limpet_seal::KEY_BYTES
        && bytes_of_hex(&record.secret_sha256)
            .is_some_and(|digest| limpet_seal::is_mesh_proven(&digest, &record.node, mesh))
}

/// Whether a secret is that of a node which joined.
///
/// # Errors
/// [`AuthError`] if it is not.
pub fn verify_node(store: &Store, node: &NodeId, secret: &str) -> Result<(), AuthError> {
    let what = || format!("the secret of node {node}");
    let entry = store.get(&Key::Node(node.clone()));
    let entry = entry.map_err(|source| AuthError::Store { what: what(), source })?;
    let record = entry.and_then(|entry| codec::decode::<NodeRecord>(&entry.value).ok());
    let known = record.is_some_and(|record| {
        record.secret_sha256.as_bytes().ct_eq(hash(secret).as_bytes()).into()
    });
    if known { Ok(()) } else { Err(AuthError::Unknown { what: what() }) }
}

/// As the store spells bytes.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ignored: std::fmt::Result = write!(text, "{byte:02x}");
        text
    })
}

/// 32 bytes that the store spells so.
pub(crate) fn bytes_of_hex(text: &str) -> Option<[u8; 32]> {
    let hash: limpet_protocol::id::SpecHash = text.parse().ok()?;
    Some(hash.0)
}

#[cfg(test)]
mod tests;
