//! Secrets on their way: sealed by the controller to a node's key, opened by that node alone.
//!
//! [`Secret`] is the clear text while it is in memory: it is never printed, and wiped when it goes.
//! [`NodeKey`] is a node's key pair, [`seal_to`] and [`NodeKey::open`] the two ends of the way (HPKE,
//! RFC 9180, in [`hpke`]), [`prove`] and [`is_proven`] how a controller knows whose key it is.

pub mod hpke;
mod proof;
mod secret;

use limpet_protocol::id::{ContentId, NodeId};
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

pub use hpke::{KEY_BYTES, SEAL_BYTES};
pub use proof::{is_mesh_proven, is_proven, prove, prove_mesh};
pub use secret::Secret;

/// What sealed secrets of this version are for; another use of the same key has another word.
const INFO: &[u8] = b"limpet secret, version 1";

/// Why something cannot be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    NoRandom,
    /// Not a key.
    #[error("it is no X25519 key of {KEY_BYTES} bytes")]
    BadKey,
    /// Not sealed to this key, for this node and content, or changed on the way.
    #[error("it is not sealed to this key, or was changed")]
    NotOurs,
}

/// The key pair that a node's secrets are sealed to.
pub struct NodeKey {
    private: Zeroizing<[u8; KEY_BYTES]>,
    public: [u8; KEY_BYTES],
}

impl std::fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeKey(..)")
    }
}

impl NodeKey {
    /// A new one.
    ///
    /// # Errors
    /// [`SealError::NoRandom`].
    pub fn make() -> Result<Self, SealError> {
        random().map(Self::from_private)
    }

    /// From the bytes of [`NodeKey::private`].
    ///
    /// # Errors
    /// [`SealError::BadKey`] if they are too few or too many.
    pub fn from_bytes(private: &[u8]) -> Result<Self, SealError> {
        let private = private.try_into().map_err(|_| SealError::BadKey)?;
        Ok(Self::from_private(Zeroizing::new(private)))
    }

    fn from_private(private: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        let public = hpke::public_key(&private);
        Self { private, public }
    }

    /// The half that may be told.
    #[must_use]
    pub const fn public(&self) -> &[u8; KEY_BYTES] {
        &self.public
    }

    /// The half that must not leave the node.
    #[must_use]
    pub fn private(&self) -> &[u8; KEY_BYTES] {
        &self.private
    }

    /// Opens what [`seal_to`] made of this key for this node and content.
    ///
    /// # Errors
    /// [`SealError::NotOurs`].
    pub fn open(
        &self,
        node: &NodeId,
        content: &ContentId,
        sealed: &[u8],
    ) -> Result<Secret, SealError> {
        let bound = bound(node, content);
        hpke::open(&self.private, INFO, &bound, sealed).map(Secret::new).ok_or(SealError::NotOurs)
    }
}

/// Seals a secret to a node's public key. Who has not the private key learns its length only.
///
/// # Errors
/// [`SealError::BadKey`], [`SealError::NoRandom`].
pub fn seal_to(
    public: &[u8],
    node: &NodeId,
    content: &ContentId,
    secret: &Secret,
) -> Result<Vec<u8>, SealError> {
    let public: &[u8; KEY_BYTES] = public.try_into().map_err(|_| SealError::BadKey)?;
    let bound = bound(node, content);
    let one_time = random()?;
    hpke::seal(&one_time, public, (INFO, &bound), secret.expose()).ok_or(SealError::BadKey)
}

/// What the seal is bound to: it opens for no other node and no other content.
fn bound(node: &NodeId, content: &ContentId) -> Vec<u8> {
    [node.as_str().as_bytes(), b"\0", &content.0].concat()
}

fn random() -> Result<Zeroizing<[u8; KEY_BYTES]>, SealError> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    SystemRandom::new().fill(bytes.as_mut()).map_err(|_| SealError::NoRandom)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> (NodeId, ContentId) {
        ("pump-7".parse().unwrap(), ContentId([3; 32]))
    }

    #[test]
    fn what_is_sealed_opens_for_its_node_and_content_alone() {
        let (node, content) = names();
        let (key, other) = (NodeKey::make().unwrap(), NodeKey::make().unwrap());
        for text in [&b""[..], b"hunter2", &[7; 100_000]] {
            let secret = Secret::new(text.to_vec());
            let sealed = seal_to(key.public(), &node, &content, &secret).unwrap();
            assert_eq!(sealed.len(), text.len() + SEAL_BYTES);
            assert_eq!(key.open(&node, &content, &sealed).unwrap().expose(), text);
            assert_eq!(other.open(&node, &content, &sealed).unwrap_err(), SealError::NotOurs);
            let elsewhere = "pump-8".parse().unwrap();
            assert!(key.open(&elsewhere, &content, &sealed).is_err());
            assert!(key.open(&node, &ContentId([4; 32]), &sealed).is_err());
            for at in [0, 31, 32, sealed.len() - 1] {
                let mut changed = sealed.clone();
                changed[at] ^= 1;
                assert!(key.open(&node, &content, &changed).is_err(), "byte {at}");
            }
        }
        let secret = Secret::new(b"hunter2".to_vec());
        let seal = || seal_to(key.public(), &node, &content, &secret).unwrap();
        assert_ne!(seal(), seal(), "the same secret never looks the same");
        for short in 0..SEAL_BYTES {
            assert!(key.open(&node, &content, &vec![1; short]).is_err());
        }
    }

    #[test]
    fn a_key_comes_back_and_bad_ones_are_refused() {
        let (node, content) = names();
        let key = NodeKey::make().unwrap();
        let same = NodeKey::from_bytes(key.private()).unwrap();
        assert_eq!(key.public(), same.public());
        assert!(NodeKey::from_bytes(&[1; 31]).is_err());
        let secret = Secret::new(vec![1]);
        for bad in [&[1; 31][..], &[0; 32], &[]] {
            // Zero is a point of small order: every key would agree with it.
            let sealed = seal_to(bad, &node, &content, &secret);
            assert_eq!(sealed.unwrap_err(), SealError::BadKey);
        }
    }

    #[test]
    fn nothing_is_printed() {
        let key = NodeKey::make().unwrap();
        let shown = format!("{key:?} {:?}", Secret::new(b"hunter2".to_vec()));
        assert_eq!(shown, "NodeKey(..) Secret(7 bytes)");
    }

    #[test]
    fn a_key_is_its_nodes_if_the_nodes_secret_says_so() {
        use limpet_protocol::message::{Mesh, SealKey};
        let (node, _) = names();
        let key = NodeKey::make().unwrap();
        let digest = [5; 32];
        let proven = prove(&digest, &node, key.public());
        assert!(is_proven(&digest, &node, &proven));
        assert!(!is_proven(&[6; 32], &node, &proven));
        assert!(!is_proven(&digest, &"pump-8".parse().unwrap(), &proven));
        let forged = SealKey { public: NodeKey::make().unwrap().public().to_vec(), ..proven };
        assert!(!is_proven(&digest, &node, &forged));
        // A proof for one purpose proves nothing for another.
        let (key, proof) = (key.public().to_vec(), forged.proof);
        let mesh = |proof| Mesh { key: key.clone(), proof, endpoints: vec![] };
        assert!(is_mesh_proven(&digest, &node, &mesh(prove_mesh(&digest, &node, &key))));
        assert!(!is_mesh_proven(&digest, &node, &mesh(proof)));
    }
}
