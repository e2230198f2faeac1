//! The node's own key pair: what its secrets are sealed to.
//!
//! In: the data folder. Out: the pair, made at the first start. The file is readable by root only
//! and never leaves the node. When it is lost the controller seals everything anew to the next one.

use std::io;
use std::path::{Path, PathBuf};

use limpet_seal::NodeKey;

use super::{LedgerError, durable};

const FILE: &str = "seal.key";
/// It has 32 bytes.
const MAX_BYTES: u64 = 64;

/// The pair, and what was wrong with the file if something was.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) key: NodeKey,
    pub(super) problem: Option<String>,
}

/// Reads the pair of a data folder, or makes one.
pub(super) fn open(data: &Path) -> Result<Opened, LedgerError> {
    let problem = match read(data) {
        Ok(key) => return Ok(Opened { key, problem: None }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Some(format!(
            "the key of this node's secrets, {}, is damaged ({error}); a new one is made and the \
             controller sends every secret anew",
            path(data).display()
        )),
        Err(source) => return Err(failed("read", data, source)),
    };
    let make = || -> io::Result<NodeKey> {
        let key = NodeKey::make().map_err(io::Error::other)?;
        durable::make_folder(data)?;
        durable::write_and_sync(&path(data), key.private())?;
        Ok(key)
    };
    let key = make().map_err(|source| failed("make", data, source))?;
    Ok(Opened { key, problem })
}

/// Reads the pair of a data folder.
pub(super) fn read(data: &Path) -> io::Result<NodeKey> {
    let bytes = zeroize::Zeroizing::new(durable::read_bounded(&path(data), MAX_BYTES)?);
    NodeKey::from_bytes(&bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}

fn path(data: &Path) -> PathBuf {
    data.join(FILE)
}

fn failed(attempt: &'static str, data: &Path, source: io::Error) -> LedgerError {
    LedgerError { attempt, path: path(data), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_key_is_made_once_is_private_and_damage_makes_another() {
        let data = tempfile::tempdir().unwrap();
        let first = open(data.path()).unwrap();
        assert_eq!(first.problem, None);
        let again = open(data.path()).unwrap();
        assert_eq!(again.key.public(), first.key.public());
        let file = path(data.path());
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        for damaged in [&b""[..], &[1; 31], &[1; 33]] {
            std::fs::write(&file, damaged).unwrap();
            let other = open(data.path()).unwrap();
            assert!(other.problem.unwrap().contains("seal.key"));
            assert_ne!(other.key.public(), first.key.public());
        }
    }
}
