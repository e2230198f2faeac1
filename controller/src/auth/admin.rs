//! The first token: made at the first start, for the person who started the controller.
//!
//! In the data folder: `admin.token` with the token alone, and `client.toml` with the token and the
//! address of the API, which the command line reads. Both are their owner's alone. Removing
//! `admin.token` and starting again replaces the token.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use limpet_protocol::codec;

use super::{AuthError, hash, make_secret, verify_admin};
use crate::clock::now_ms;
use crate::store::records::{TokenPurpose, TokenRecord};
use crate::store::{CommitError, Key, Kind, Op, Store, StoreError, Transaction};

/// The token alone.
pub const TOKEN_FILE: &str = "admin.token";
/// The address and the token, for the command line.
pub const CLIENT_FILE: &str = "client.toml";
/// How the token that the controller made itself is described.
const DESCRIPTION: &str = "made by the controller at its first start";

/// Why the controller has no token for its owner.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The token cannot be made or checked.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The token cannot be kept.
    #[error("keep the first token in the store")]
    Commit(#[from] CommitError),
    /// The older tokens cannot be read.
    #[error("list the tokens")]
    List(#[from] StoreError),
    /// The token's record is too large: cannot be, it has fixed content.
    #[error("encode the first token")]
    Encode(#[from] codec::CodecError),
    /// A file cannot be written.
    #[error("write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// The admin token of the data folder: the one that is there if it is valid, else a new one.
///
/// # Errors
/// [`AdminError`] if it cannot be kept in the store or written to its file.
pub async fn ensure_token(store: &Store, data: &Path) -> Result<String, AdminError> {
    let path = data.join(TOKEN_FILE);
    if let Ok(text) = std::fs::read_to_string(&path) {
        match verify_admin(store, text.trim()) {
            Ok(()) => return Ok(text.trim().to_owned()),
            Err(error @ AuthError::Store { .. }) => return Err(error.into()),
            Err(_) => {
                tracing::info!(path = %path.display(), "the token is not valid: making a new one")
            }
        }
    }
    let token = make_secret()?;
    let record = TokenRecord {
        purpose: TokenPurpose::Admin,
        description: DESCRIPTION.to_owned(),
        created_ms: now_ms(),
        expires_ms: None,
    };
    let mut ops = earlier_tokens(store)?;
    ops.push(Op::Put(Key::Token(hash(&token)), codec::encode(&record)?));
    store.commit(Transaction { ops, ..Transaction::default() }).await?;
    write_private(&path, &token)?;
    Ok(token)
}

/// Whoever removed the file wants the old token gone.
fn earlier_tokens(store: &Store) -> Result<Vec<Op>, AdminError> {
    let (_, tokens) = store.list(Kind::Token)?;
    let ours = tokens.into_iter().filter(|(_, entry)| {
        codec::decode::<TokenRecord>(&entry.value)
            .is_ok_and(|record| record.description == DESCRIPTION)
    });
    Ok(ours.map(|(key, _)| Op::Delete(key)).collect())
}

/// Writes `client.toml`, so that the command line on this machine finds the API.
///
/// # Errors
/// [`AdminError::Write`].
pub fn write_client_file(data: &Path, server: &str, token: &str) -> Result<PathBuf, AdminError> {
    let path = data.join(CLIENT_FILE);
    let text = format!("server = \"{server}\"\ntoken = \"{token}\"\n");
    if !std::fs::read_to_string(&path).is_ok_and(|old| old == text) {
        write_private(&path, &text)?;
    }
    Ok(path)
}

/// Replaces a file in one step; a power cut leaves the old one or the new one.
fn write_private(path: &Path, text: &str) -> Result<(), AdminError> {
    let failed = |source| AdminError::Write { path: path.to_owned(), source };
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let fresh = path.with_file_name(name);
    let write = || -> std::io::Result<()> {
        // Removed first, since an older file keeps its own permissions.
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&fresh, path)?;
        match path.parent() {
            Some(folder) => std::fs::File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(failed)
}
