//! The vault: the key that secrets rest under, in a file beside the store.
//!
//! In: secrets in clear, for a moment. Out: their ids and their sealed forms, which are all that the
//! store, its log and its backups ever hold. The file is made at the first start and readable by its
//! owner only. When it is lost, what was sealed with it is lost: the controller runs on without
//! secrets and says so wherever one is asked for.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use limpet_protocol::id::ContentId;
use limpet_seal::Secret;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

/// The file's name, beside the store's.
const FILE: &str = "secrets.key";
/// Bytes of the key.
const KEY_BYTES: usize = 32;

type KeyBytes = Zeroizing<[u8; KEY_BYTES]>;

/// Why a secret cannot be kept or given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// The key that the secrets of the store are sealed with is gone.
    #[error(
        "the key of the secrets, {}, is not the one that the store's secrets are sealed with: put \
         the file back from a backup and start the controller again; without one, remove the file, \
         `limpet secret rm` every secret, remove what uses others, start the controller again and \
         apply anew",
        path.display()
    )]
    Lost {
        /// The file.
        path: PathBuf,
    },
    /// A sealed secret was changed.
    #[error("secret {id} in the store is damaged: give it again")]
    Damaged {
        /// Which.
        id: ContentId,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    NoRandom,
}

/// See the module.
pub struct Vault {
    path: PathBuf,
    keys: Option<Keys>,
}

struct Keys {
    /// What ids are made with.
    id: hmac::Key,
    /// What secrets rest under.
    rest: LessSafeKey,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vault({})", self.path.display())
    }
}

impl Vault {
    /// Opens the vault beside a store. `sealed` is one secret of that store, if it has any: with it
    /// a missing or foreign key is noticed, and no new one is made in its place.
    pub(super) fn open(store: &Path, sealed: Option<(ContentId, &[u8])>) -> io::Result<Self> {
        let path = store.with_file_name(FILE);
        let keys = match read(&path) {
            Ok(key) => Keys::of(&key),
            Err(error) if error.kind() == io::ErrorKind::NotFound && sealed.is_none() => {
                Keys::of(&make(&path)?)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let mut vault = Self { path, keys };
        if let Some((id, sealed)) = sealed
            && vault.open_sealed(&id, sealed).is_err()
        {
            vault.keys = None;
            let path = vault.path.clone();
            tracing::error!("{}", VaultError::Lost { path });
        }
        Ok(vault)
    }

    fn keys(&self) -> Result<&Keys, VaultError> {
        self.keys.as_ref().ok_or_else(|| VaultError::Lost { path: self.path.clone() })
    }

    /// The id of a secret: the same for the same bytes, and of no use to who has not the key.
    ///
    /// # Errors
    /// [`VaultError::Lost`].
    pub fn id(&self, secret: &Secret) -> Result<ContentId, VaultError> {
        let tag = hmac::sign(&self.keys()?.id, secret.expose());
        let mut id = [0; 32];
        id.copy_from_slice(tag.as_ref());
        Ok(ContentId(id))
    }

    /// Seals a secret for the store.
    ///
    /// # Errors
    /// [`VaultError::Lost`], [`VaultError::NoRandom`].
    pub fn seal(&self, id: &ContentId, secret: &Secret) -> Result<Vec<u8>, VaultError> {
        let keys = self.keys()?;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| VaultError::NoRandom)?;
        let mut sealed = [&nonce[..], secret.expose()].concat();
        let (nonce, aad) = (Nonce::assume_unique_for_key(nonce), Aad::from(id.0));
        let tag = keys.rest.seal_in_place_separate_tag(nonce, aad, &mut sealed[NONCE_LEN..]);
        // Fails for more bytes than a message can have.
        sealed.extend_from_slice(tag.map_err(|_| VaultError::Damaged { id: *id })?.as_ref());
        Ok(sealed)
    }

    /// Opens what [`Vault::seal`] made.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn open_sealed(&self, id: &ContentId, sealed: &[u8]) -> Result<Secret, VaultError> {
        let keys = self.keys()?;
        let damaged = || VaultError::Damaged { id: *id };
        let (nonce, text) = sealed.split_first_chunk::<NONCE_LEN>().ok_or_else(damaged)?;
        let mut text = Zeroizing::new(text.to_vec());
        let (nonce, aad) = (Nonce::assume_unique_for_key(*nonce), Aad::from(id.0));
        let clear = keys.rest.open_in_place(nonce, aad, &mut text).map_err(|_| damaged())?;
        Ok(Secret::new(clear.to_vec()))
    }
}

impl Keys {
    /// One key for each use, so that neither tells of the other.
    fn of(key: &KeyBytes) -> Option<Self> {
        let for_use = |word: &[u8]| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_ref());
            hmac::sign(&key, word)
        };
        let rest = for_use(b"limpet secrets at rest, version 1");
        let rest = UnboundKey::new(&CHACHA20_POLY1305, rest.as_ref()).ok()?;
        let id = for_use(b"limpet ids of secrets, version 1");
        let id = hmac::Key::new(hmac::HMAC_SHA256, id.as_ref());
        Some(Self { id, rest: LessSafeKey::new(rest) })
    }
}

fn read(path: &Path) -> io::Result<KeyBytes> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_BYTES + 1));
    File::open(path)?.take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    let key = <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).map_err(|_| {
        let message =
            format!("it does not hold {KEY_BYTES} bytes: put it back from a backup, or remove it");
        io::Error::new(io::ErrorKind::InvalidData, message)
    })?;
    Ok(Zeroizing::new(key))
}

/// A new key, on disk before anything is sealed with it.
fn make(path: &Path) -> io::Result<KeyBytes> {
    let mut key = KeyBytes::default();
    SystemRandom::new().fill(key.as_mut()).map_err(|_| io::Error::other(VaultError::NoRandom))?;
    let new = path.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(key.as_ref())?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        File::open(folder)?.sync_all()?;
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_same_secret_has_the_same_id_and_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store.redb");
        let vault = Vault::open(&store, None).unwrap();
        let secret = Secret::new(b"hunter2".to_vec());
        let id = vault.id(&secret).unwrap();
        let sealed = vault.seal(&id, &secret).unwrap();
        assert_ne!(sealed, vault.seal(&id, &secret).unwrap());
        let file = folder.path().join(FILE);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

        let again = Vault::open(&store, Some((id, &sealed))).unwrap();
        assert_eq!(again.id(&secret).unwrap(), id);
        assert_eq!(again.open_sealed(&id, &sealed).unwrap(), secret);
        assert!(again.open_sealed(&ContentId([1; 32]), &sealed).is_err());
        for cut in 0..sealed.len() {
            assert!(again.open_sealed(&id, &sealed[..cut]).is_err());
        }
        let elsewhere = tempfile::tempdir().unwrap();
        let other = Vault::open(&elsewhere.path().join("store"), None).unwrap();
        assert_ne!(other.id(&secret).unwrap(), id, "the id tells nothing without the key");
    }

    #[test]
    fn a_lost_key_is_noticed_and_no_other_takes_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store.redb");
        let file = folder.path().join(FILE);
        let vault = Vault::open(&store, None).unwrap();
        let secret = Secret::new(b"hunter2".to_vec());
        let id = vault.id(&secret).unwrap();
        let sealed = vault.seal(&id, &secret).unwrap();
        for other in [None, Some([7; 32])] {
            std::fs::remove_file(&file).unwrap();
            if let Some(other) = other {
                std::fs::write(&file, other).unwrap();
            }
            let lost = Vault::open(&store, Some((id, &sealed))).unwrap();
            for error in
                [lost.id(&secret).unwrap_err(), lost.open_sealed(&id, &sealed).unwrap_err()]
            {
                assert!(error.to_string().contains("secrets.key"), "{error}");
            }
            assert_eq!(file.exists(), other.is_some(), "none is made");
            std::fs::write(&file, [0; 32]).unwrap();
        }
        std::fs::write(&file, [0; 31]).unwrap();
        assert!(Vault::open(&store, None).is_err());
    }
}
