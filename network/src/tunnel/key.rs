//! A node's key pair of the tunnel (X25519, RFC 7748).
//!
//! The private half is made on the node and never leaves it; it is wiped when it is dropped and never
//! printed. The public half is what the controller distributes.

use std::fmt;

use ring::rand::{SecureRandom as _, SystemRandom};
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

/// How long both halves are.
pub const KEY_BYTES: usize = 32;

/// Why there is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    NoRandom,
    /// Too few bytes, or too many.
    #[error("{0} bytes are no key; it has {KEY_BYTES}")]
    Length(usize),
}

/// The half that must not leave the node.
#[derive(Clone)]
pub struct PrivateKey(Zeroizing<[u8; KEY_BYTES]>);

/// The half that may be told, and by which a node is known to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; KEY_BYTES]);

impl PrivateKey {
    /// Makes a new one.
    ///
    /// # Errors
    /// [`KeyError::NoRandom`].
    pub fn make() -> Result<Self, KeyError> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        SystemRandom::new().fill(bytes.as_mut()).map_err(|_| KeyError::NoRandom)?;
        Ok(Self::clamped(bytes))
    }

    /// From the bytes of [`PrivateKey::expose`].
    ///
    /// # Errors
    /// [`KeyError::Length`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let bytes = bytes.try_into().map_err(|_| KeyError::Length(bytes.len()))?;
        Ok(Self::clamped(Zeroizing::new(bytes)))
    }

    /// As RFC 7748, section 5, has it, and as `wg genkey` writes it: the kernel shows the key in this
    /// form, so one that is kept in it can be compared.
    fn clamped(mut bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        bytes[0] &= 0b1111_1000;
        bytes[31] &= 0b0111_1111;
        bytes[31] |= 0b0100_0000;
        Self(bytes)
    }

    /// The bytes. Whoever asks must not pass them on.
    #[must_use]
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// The other half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(x25519_dalek::PublicKey::from(&self.secret()).to_bytes())
    }

    pub(super) fn secret(&self) -> StaticSecret {
        StaticSecret::from(*self.0)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

impl TryFrom<&[u8]> for PublicKey {
    type Error = KeyError;
    fn try_from(bytes: &[u8]) -> Result<Self, KeyError> {
        bytes.try_into().map(Self).map_err(|_| KeyError::Length(bytes.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_and_is_not_printed() {
        let key = PrivateKey::make().unwrap();
        let same = PrivateKey::from_bytes(key.expose()).unwrap();
        assert_eq!((key.expose(), key.public()), (same.expose(), same.public()));
        assert_ne!(key.public(), PrivateKey::make().unwrap().public());
        assert_eq!(PrivateKey::from_bytes(&[1; 31]).unwrap_err(), KeyError::Length(31));
        assert_eq!(PublicKey::try_from(&[1; 33][..]).unwrap_err(), KeyError::Length(33));
        assert_eq!(format!("{key:?}"), "PrivateKey(..)");
    }

    #[test]
    fn the_public_half_is_that_of_the_standard() {
        // RFC 7748, section 6.1: Alice's keys.
        let private = [
            0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2,
            0x66, 0x45, 0xdf, 0x4c, 0x2f, 0x87, 0xeb, 0xc0, 0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5,
            0x1d, 0xb9, 0x2c, 0x2a,
        ];
        let public = PrivateKey::from_bytes(&private).unwrap().public();
        assert_eq!(public.0[..4], [0x85, 0x20, 0xf0, 0x09]);
        assert_eq!(public.0[28..], [0xaa, 0x9b, 0x4e, 0x6a]);
    }
}
