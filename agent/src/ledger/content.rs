//! Configs and secrets as the ledger keeps them: a config in clear, a secret only sealed.
//!
//! In: files of the ledger's folder. Out: for the agent, bytes that were checked; for the keeper's
//! child that makes a container, the clear text ([`clear`]), which nobody else ever has.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use limpet_protocol::codec;
use limpet_protocol::id::{ContentId, NodeId};
use limpet_protocol::limits::MAX_PAYLOAD_BYTES;
use limpet_protocol::message::{ConfigContent, SealedSecret, Signed};
use limpet_protocol::spec::Spec;
use limpet_protocol::topic::Topic;
use limpet_seal::Secret;
use serde::{Deserialize, Serialize};

use super::key_file::KeyFile;
use super::{FOLDER, durable, key_file};

/// Which content, and of which of the two kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ContentRef {
    /// Of a config.
    Config(ContentId),
    /// Of a secret.
    Secret(ContentId),
}

/// Contents as they were received, by what they are.
pub type Contents = BTreeMap<ContentRef, Arc<[u8]>>;

impl ContentRef {
    /// All contents that a spec names.
    pub fn all_of(spec: &Spec) -> impl Iterator<Item = Self> {
        let configs = spec.configs.iter().map(|mount| Self::Config(mount.content));
        configs.chain(spec.secrets.iter().map(|mount| Self::Secret(mount.content)))
    }

    /// Where it comes from.
    #[must_use]
    pub fn topic(self, node: &NodeId) -> Topic {
        match self {
            Self::Config(id) => Topic::Config(id),
            Self::Secret(id) => Topic::Secret(node.clone(), id),
        }
    }

    /// Its file in the ledger's folder.
    pub(super) fn file(self) -> String {
        match self {
            Self::Config(id) => format!("config-{id}"),
            Self::Secret(id) => format!("secret-{id}"),
        }
    }

    /// Whether a file holds a content.
    pub(super) fn is_file(name: &str) -> bool {
        name.starts_with("config-") || name.starts_with("secret-")
    }
}

/// The sealed secret in an envelope whose signature was checked when it came in.
pub(super) fn sealed(signed: &[u8]) -> Option<SealedSecret> {
    let signed: Signed = codec::decode(signed).ok()?;
    codec::decode(&signed.payload).ok()
}

/// The clear text of a content in the ledger of a data folder, to be put into a container.
///
/// # Errors
/// A sentence for a person: it is not there, or not sealed to the key that the node has now.
pub(crate) fn clear(data: &Path, content: ContentRef) -> Result<Secret, String> {
    let path = data.join(FOLDER).join(content.file());
    let bytes = durable::read_bounded(&path, MAX_PAYLOAD_BYTES as u64)
        .map_err(|error| format!("read {}: {error}", path.display()))?;
    let damaged = || format!("{} is damaged", path.display());
    match content {
        ContentRef::Config(_) => {
            let config: ConfigContent = codec::decode(&bytes).map_err(|_| damaged())?;
            Ok(Secret::new(config.content))
        }
        ContentRef::Secret(id) => {
            let sealed = sealed(&bytes).filter(|sealed| sealed.content == id);
            let SealedSecret { node, sealed, .. } = sealed.ok_or_else(damaged)?;
            let key = key_file::read(data, KeyFile::Seal)
                .map_err(|error| format!("read this node's key: {error}"))?;
            key.open(&node, &id, &sealed).map_err(|_| {
                "it is sealed to a key that this node had before; the controller sends it anew"
                    .to_owned()
            })
        }
    }
}
