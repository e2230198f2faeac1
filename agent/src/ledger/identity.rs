//! Who this node is: what the controller gave it when it joined.
//!
//! In: the data folder. Out: an [`Identity`], or none before the node joined. The file is readable
//! by root only; the node's secret is in it.

use std::io;
use std::path::{Path, PathBuf};

use limpet_protocol::id::NodeId;
use serde::{Deserialize, Serialize};

use super::durable;

const FILE: &str = "identity.json";
/// It has a handful of short fields.
const MAX_BYTES: u64 = 16 * 1024;
/// Bytes of an Ed25519 public key (RFC 8032).
const KEY_BYTES: usize = 32;

/// What the controller gave the node when it joined.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its name, also its MQTT user and client id.
    pub node: NodeId,
    /// Its MQTT password.
    pub secret: String,
    /// The controller's public signing key: the only one that this node ever believes.
    pub controller_key: Vec<u8>,
    /// Where images are fetched; the broker's host if none.
    pub image_host: Option<String>,
    /// The port there.
    pub image_port: u16,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({}, ..)", self.node)
    }
}

/// Why the identity cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file is there and cannot be read.
    #[error("read identity file {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file is there and is not an identity.
    #[error(
        "identity file {} is damaged; restore it from a backup, or delete it and join again with a token",
        path.display()
    )]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// It cannot be kept.
    #[error("write identity file {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl Identity {
    /// Reads the identity of the node whose data folder this is.
    ///
    /// # Errors
    /// [`IdentityError`] if there is one that cannot be used.
    pub fn read(data: &Path) -> Result<Option<Self>, IdentityError> {
        let path = data.join(FILE);
        let bytes = match durable::read_bounded(&path, MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(IdentityError::Read { path, source }),
        };
        let damaged = |source| IdentityError::Damaged { path: path.clone(), source };
        let identity: Self = serde_json::from_slice(&bytes).map_err(damaged)?;
        if identity.controller_key.len() != KEY_BYTES {
            let message = format!("the controller's key must have {KEY_BYTES} bytes");
            return Err(damaged(serde::de::Error::custom(message)));
        }
        Ok(Some(identity))
    }

    /// Keeps the identity.
    ///
    /// # Errors
    /// [`IdentityError::Write`].
    pub fn write(&self, data: &Path) -> Result<(), IdentityError> {
        let path = data.join(FILE);
        let failed = |source| IdentityError::Write { path: path.clone(), source };
        let bytes = serde_json::to_vec_pretty(self).map_err(|error| failed(error.into()))?;
        durable::make_folder(data).map_err(failed)?;
        durable::write_and_sync(&path, &bytes).map_err(failed)
    }
}
