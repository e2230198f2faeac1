//! Hybrid public key encryption, RFC 9180, in the one form that Limpet uses: base mode, one message
//! a seal, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305.
//!
//! The curve is x25519-dalek's, everything else ring's, which is in the program anyway. Names are
//! those of the RFC, whose test vectors are below. Pure: the one-time key is given.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hmac;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// Bytes of a key, private or public (RFC 7748).
pub const KEY_BYTES: usize = 32;
/// By how much a sealed message is longer: the one-time public key and the tag of the cipher.
pub const SEAL_BYTES: usize = KEY_BYTES + TAG_BYTES;
const TAG_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;

/// `"KEM" || I2OSP(kem_id, 2)` of DHKEM(X25519, HKDF-SHA256).
const KEM_SUITE: &[u8] = b"KEM\x00\x20";
/// `"HPKE" || kem_id || kdf_id || aead_id`.
const SUITE: &[u8] = b"HPKE\x00\x20\x00\x01\x00\x03";
const VERSION: &[u8] = b"HPKE-v1";

type Key = Zeroizing<[u8; KEY_BYTES]>;

/// The public half of a private key.
#[must_use]
pub fn public_key(private: &[u8; KEY_BYTES]) -> [u8; KEY_BYTES] {
    PublicKey::from(&StaticSecret::from(*private)).to_bytes()
}

/// Seals a text to a public key: `SealBase` (RFC 9180, section 6.1). None if the key is no good one.
#[must_use]
pub fn seal(
    one_time: &[u8; KEY_BYTES],
    public: &[u8; KEY_BYTES],
    (info, aad): (&[u8], &[u8]),
    text: &[u8],
) -> Option<Vec<u8>> {
    let enc = public_key(one_time);
    let shared = agree(one_time, public, &enc, public)?;
    let (key, nonce) = schedule(&shared, info)?;
    let mut sealed = Vec::with_capacity(SEAL_BYTES + text.len());
    sealed.extend_from_slice(&enc);
    sealed.extend_from_slice(text);
    let tag =
        key.seal_in_place_separate_tag(nonce, Aad::from(aad), &mut sealed[KEY_BYTES..]).ok()?;
    sealed.extend_from_slice(tag.as_ref());
    Some(sealed)
}

/// Opens what was sealed: `OpenBase`. None if it is not as it was sealed to this key.
#[must_use]
pub fn open(private: &[u8; KEY_BYTES], info: &[u8], aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (enc, text) = sealed.split_first_chunk::<KEY_BYTES>()?;
    let shared = agree(private, enc, enc, &public_key(private))?;
    let (key, nonce) = schedule(&shared, info)?;
    let mut text = Zeroizing::new(text.to_vec());
    let clear = key.open_in_place(nonce, Aad::from(aad), &mut text).ok()?.len();
    Some(text[..clear].to_vec())
}

/// The secret that both ends share: `Encap` and `Decap` (section 4.1). None for a point of small
/// order, with which every key would agree.
fn agree(
    own: &[u8; KEY_BYTES],
    other: &[u8; KEY_BYTES],
    enc: &[u8; KEY_BYTES],
    receiver: &[u8; KEY_BYTES],
) -> Option<Key> {
    let agreed = StaticSecret::from(*own).diffie_hellman(&PublicKey::from(*other));
    if !agreed.was_contributory() {
        return None;
    }
    let prk = labeled_extract(KEM_SUITE, &[], b"eae_prk", agreed.as_bytes());
    let context = [&enc[..], receiver].concat();
    let mut shared = Key::default();
    labeled_expand(KEM_SUITE, &prk, (b"shared_secret", &context), shared.as_mut());
    Some(shared)
}

/// Key and nonce of the one message: `KeySchedule` in base mode (section 5.1), sequence number 0.
fn schedule(shared: &[u8; KEY_BYTES], info: &[u8]) -> Option<(LessSafeKey, Nonce)> {
    let id_hash = labeled_extract(SUITE, &[], b"psk_id_hash", &[]);
    let info_hash = labeled_extract(SUITE, &[], b"info_hash", info);
    let context = [&[0][..], &id_hash[..], &info_hash[..]].concat();
    let secret = labeled_extract(SUITE, shared, b"secret", &[]);
    let (mut key, mut nonce) = (Key::default(), [0; NONCE_BYTES]);
    labeled_expand(SUITE, &secret, (b"key", &context), key.as_mut());
    labeled_expand(SUITE, &secret, (b"base_nonce", &context), &mut nonce);
    let key = UnboundKey::new(&CHACHA20_POLY1305, key.as_ref()).ok()?;
    Some((LessSafeKey::new(key), Nonce::assume_unique_for_key(nonce)))
}

/// `LabeledExtract` (section 4): HKDF-Extract (RFC 5869) is one HMAC.
fn labeled_extract(suite: &[u8], salt: &[u8], label: &[u8], material: &[u8]) -> Key {
    mac(salt, &[VERSION, suite, label, material])
}

/// `LabeledExpand` (section 4) of at most one block, which is all that this form needs.
fn labeled_expand(suite: &[u8], prk: &Key, (label, info): (&[u8], &[u8]), out: &mut [u8]) {
    assert!(out.len() <= KEY_BYTES, "one block of HKDF-SHA256 has 32 bytes");
    // At most 32, so that one byte holds it.
    let length = [0, u8::try_from(out.len()).unwrap_or_default()];
    let block = mac(prk.as_ref(), &[&length, VERSION, suite, label, info, &[1]]);
    out.copy_from_slice(&block[..out.len()]);
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Key {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    parts.iter().for_each(|part| context.update(part));
    let mut out = Key::default();
    out.copy_from_slice(context.sign().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let pairs = text.as_bytes().chunks_exact(2);
        pairs.map(|p| u8::from_str_radix(std::str::from_utf8(p).unwrap(), 16).unwrap()).collect()
    }

    fn key(text: &str) -> [u8; KEY_BYTES] {
        hex(text).try_into().unwrap()
    }

    /// RFC 9180, appendix A.2.1, sequence number 0.
    #[test]
    fn it_is_what_the_rfc_says() {
        let one_time = key("f4ec9b33b792c372c1d2c2063507b684ef925b8c75a42dbcbf57d63ccd381600");
        let private = key("8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb");
        let public = key("4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a");
        let enc = key("1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a");
        assert_eq!(public_key(&private), public);
        assert_eq!(public_key(&one_time), enc);
        let shared = agree(&one_time, &public, &enc, &public).unwrap();
        let expected = "0bbe78490412b4bbea4812666f7916932b828bba79942424abb65244930d69a7";
        assert_eq!(shared.to_vec(), hex(expected));

        let (info, aad) = (hex("4f6465206f6e2061204772656369616e2055726e"), b"Count-0");
        let text = b"Beauty is truth, truth beauty";
        let sealed = seal(&one_time, &public, (&info, aad), text).unwrap();
        assert_eq!(&sealed[..KEY_BYTES], enc);
        let cipher_text = "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db\
                           21993c62ce81883d2dd1b51a28";
        assert_eq!(&sealed[KEY_BYTES..], hex(cipher_text));
        assert_eq!(open(&private, &info, aad, &sealed).unwrap(), text);
    }
}
