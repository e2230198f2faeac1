//! The node's own key pairs (X25519): what its secrets are sealed to, and what other nodes know it by.
//!
//! In: the data folder. Out: a pair, made at the first start. The file is readable by root only
//! and never leaves the node. When it is lost the next one takes its place everywhere.

use std::io;
use std::path::{Path, PathBuf};

use limpet_seal::NodeKey;

use super::{LedgerError, durable};

/// Which pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyFile {
    /// What secrets are sealed to.
    Seal,
    /// What other nodes know it by.
    Mesh,
}

impl KeyFile {
    fn path(self, data: &Path) -> PathBuf {
        data.join(match self {
            Self::Seal => "seal.key",
            Self::Mesh => "mesh.key",
        })
    }

    const fn meaning(self) -> (&'static str, &'static str) {
        match self {
            Self::Seal => ("this node's secrets", "the controller sends every secret anew"),
            Self::Mesh => ("this node in the fleet's network", "other nodes are told of it"),
        }
    }
}

/// It has 32 bytes.
const MAX_BYTES: u64 = 64;

/// The pair, and what was wrong with the file if something was.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) key: NodeKey,
    pub(super) problem: Option<String>,
}

/// Reads the pair of a data folder, or makes one.
pub(super) fn open(data: &Path, file: KeyFile) -> Result<Opened, LedgerError> {
    let problem = match read(data, file) {
        Ok(key) => return Ok(Opened { key, problem: None }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            let (whose, then) = file.meaning();
            let path = file.path(data);
            let path = path.display();
            Some(format!(
                "the key of {whose}, {path}, is damaged ({error}); a new one is made and {then}"
            ))
        }
        Err(source) => return Err(failed("read", file.path(data), source)),
    };
    let make = || -> io::Result<NodeKey> {
        let key = NodeKey::make().map_err(io::Error::other)?;
        durable::make_folder(data)?;
        durable::write_and_sync(&file.path(data), key.private())?;
        Ok(key)
    };
    let key = make().map_err(|source| failed("make", file.path(data), source))?;
    Ok(Opened { key, problem })
}

/// Reads the pair of a data folder.
pub(super) fn read(data: &Path, file: KeyFile) -> io::Result<NodeKey> {
    let bytes = zeroize::Zeroizing::new(durable::read_bounded(&file.path(data), MAX_BYTES)?);
    NodeKey::from_bytes(&bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}

fn failed(attempt: &'static str, path: PathBuf, source: io::Error) -> LedgerError {
    LedgerError { attempt, path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_is_private_and_damage_makes_another() {
        let data = tempfile::tempdir().unwrap();
        for file in [KeyFile::Seal, KeyFile::Mesh] {
            let open = || open(data.path(), file).unwrap();
            let first = open();
            assert_eq!(first.problem, None);
            assert_eq!(open().key.public(), first.key.public());
            let path = file.path(data.path());
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            for damaged in [&b""[..], &[1; 31], &[1; 33]] {
                std::fs::write(&path, damaged).unwrap();
                let other = open();
                assert!(other.problem.unwrap().contains(&path.display().to_string()));
                assert_ne!(other.key.public(), first.key.public());
            }
        }
        let public = |file| open(data.path(), file).unwrap().key.public().to_vec();
        assert_ne!(public(KeyFile::Seal), public(KeyFile::Mesh));
    }
}
