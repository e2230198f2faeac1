//! Who this controller is: made at the first open of a store, and kept in it.
//!
//! The epoch is the time of that first open in seconds since 1970, so that a store that replaces
//! a lost one has a greater epoch without knowing the old one.

use std::time::SystemTime;

use redb::{Database, ReadableDatabase};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};

use super::error::StoreError;
use super::layout::{CLUSTER_ID, EPOCH, META, SIGNING_KEY, number};

/// The cluster's id, the epoch of its database, and the key that signs assignments.
pub struct Identity {
    cluster_id: String,
    epoch: u64,
    key: Ed25519KeyPair,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("cluster_id", &self.cluster_id)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// 32 hexadecimal digits, random.
    #[must_use]
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// Which life of the database this is; later lives have greater numbers.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The public signing key, 32 bytes.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        self.key.public_key().as_ref()
    }

    /// The Ed25519 signature over a text, 64 bytes.
    #[must_use]
    pub fn sign(&self, text: &[u8]) -> Vec<u8> {
        self.key.sign(text).as_ref().to_vec()
    }

    /// What a new store says of itself: (name in `meta`, bytes).
    pub(super) fn make() -> Result<[(&'static str, Vec<u8>); 3], StoreError> {
        const FAILED: StoreError = StoreError::SigningKey { attempt: "make" };
        let random = SystemRandom::new();
        let key = Ed25519KeyPair::generate_pkcs8(&random).map_err(|_| FAILED)?;
        let mut id = [0; 16];
        random.fill(&mut id).map_err(|_| FAILED)?;
        let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok([
            (CLUSTER_ID, id.into_bytes()),
            (EPOCH, epoch_now().to_be_bytes().to_vec()),
            (SIGNING_KEY, key.as_ref().to_vec()),
        ])
    }

    pub(super) fn read(database: &Database) -> Result<Self, StoreError> {
        let failed = |what: &'static str| StoreError::Undecodable { what: what.to_owned() };
        let read = |name: &'static str| -> Result<Vec<u8>, StoreError> {
            let reading = database.begin_read().map_err(|e| StoreError::read(name, e))?;
            let meta = reading.open_table(META).map_err(|e| StoreError::read(name, e))?;
            let value = meta.get(name).map_err(|e| StoreError::read(name, e))?;
            value.map(|value| value.value().to_vec()).ok_or_else(|| failed(name))
        };
        let key = Ed25519KeyPair::from_pkcs8(&read(SIGNING_KEY)?)
            .map_err(|_| StoreError::SigningKey { attempt: "read" })?;
        Ok(Self {
            cluster_id: String::from_utf8(read(CLUSTER_ID)?).map_err(|_| failed(CLUSTER_ID))?,
            epoch: number(&read(EPOCH)?).ok_or_else(|| failed(EPOCH))?,
            key,
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "the rim: stamps a new store once")]
fn epoch_now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(1, |since| since.as_secs().max(1))
}
