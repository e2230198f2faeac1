//! How the bytes look: CBOR (RFC 8949), bounded before anything is allocated.
//!
//! Decoding walks the bytes once without allocating ([`check`]) and refuses what is too large, too
//! deep, too many or of indefinite length; only then serde builds values. Unknown map keys are
//! ignored and missing ones have defaults where the types say so, so that neighbouring versions
//! talk to each other.

use alloc::vec::Vec;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::limits::{MAX_DEPTH, MAX_ITEMS, MAX_PAYLOAD_BYTES};

/// Why bytes are not a message, or a message cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// More bytes than the kind of message may have.
    #[error("{bytes} bytes; at most {max} are allowed")]
    TooLarge {
        /// How many there are.
        bytes: usize,
        /// How many there may be.
        max: usize,
    },
    /// Nested deeper than any message of Limpet.
    #[error("nested deeper than {MAX_DEPTH} levels at byte {at}")]
    TooDeep {
        /// Where.
        at: usize,
    },
    /// More items than any message of Limpet.
    #[error("more than {MAX_ITEMS} items at byte {at}")]
    TooMany {
        /// Where.
        at: usize,
    },
    /// Cut off, or a length that goes past the end.
    #[error("the bytes end in the middle of an item that begins at byte {at}")]
    Truncated {
        /// Where the item begins.
        at: usize,
    },
    /// Something that Limpet never writes: an indefinite length, a reserved form, bytes after the end.
    #[error("not the CBOR that Limpet writes at byte {at}")]
    Malformed {
        /// Where.
        at: usize,
    },
    /// Sound CBOR that is not this message.
    #[error("not the expected message")]
    WrongShape(#[source] serde_cbor::Error),
}

/// Encodes a message, at most [`MAX_PAYLOAD_BYTES`] long.
///
/// # Errors
/// [`CodecError::TooLarge`] if it is longer.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, CodecError> {
    encode_within(message, MAX_PAYLOAD_BYTES)
}

/// Encodes a message that may have at most `max` bytes.
///
/// # Errors
/// [`CodecError::TooLarge`] if it is longer.
pub fn encode_within<T: Serialize>(message: &T, max: usize) -> Result<Vec<u8>, CodecError> {
    let bytes = serde_cbor::to_vec(message).map_err(CodecError::WrongShape)?;
    if bytes.len() > max {
        return Err(CodecError::TooLarge { bytes: bytes.len(), max });
    }
    Ok(bytes)
}

/// Decodes a message of at most [`MAX_PAYLOAD_BYTES`].
///
/// # Errors
/// [`CodecError`] says what is wrong with the bytes; hostile ones cost no memory.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    decode_within(bytes, MAX_PAYLOAD_BYTES)
}

/// Decodes a message of at most `max` bytes.
///
/// # Errors
/// [`CodecError`] says what is wrong with the bytes; hostile ones cost no memory.
pub fn decode_within<T: DeserializeOwned>(bytes: &[u8], max: usize) -> Result<T, CodecError> {
    if bytes.len() > max {
        return Err(CodecError::TooLarge { bytes: bytes.len(), max });
    }
    check(bytes)?;
    read(bytes).map_err(CodecError::WrongShape)
}

#[cfg(not(feature = "small"))]
fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_cbor::Error> {
    serde_cbor::from_slice(bytes)
}

/// `from_slice` is a whole reader for each `T`; behind a pointer to what reads, the reader is there once.
#[cfg(feature = "small")]
fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_cbor::Error> {
    let mut reader = serde_cbor::Deserializer::from_slice(bytes);
    let mut reader = <dyn erased_serde::Deserializer<'_>>::erase(&mut reader);
    erased_serde::deserialize(&mut reader).map_err(serde::de::Error::custom)
}

/// Walks one CBOR item and everything in it, keeping the bounds of [`crate::limits`].
///
/// # Errors
/// [`CodecError`] for the first byte that breaks a bound.
pub fn check(bytes: &[u8]) -> Result<(), CodecError> {
    // For every open array or map: how many items are still to come in it.
    let mut open: heapless::Vec<usize, MAX_DEPTH> = heapless::Vec::new();
    let (mut at, mut items) = (0, 0);
    loop {
        items += 1;
        if items > MAX_ITEMS {
            return Err(CodecError::TooMany { at });
        }
        let header = Header::read(bytes, at)?;
        let inner = match header.major {
            Major::Scalar => 0,
            Major::Text(length) => {
                let left = bytes.len() - header.end;
                if length > left {
                    return Err(CodecError::Truncated { at });
                }
                0
            }
            // Each item takes a byte at least, so a count past the end is a lie.
            Major::Items(count) if count > bytes.len() - header.end => {
                return Err(CodecError::Truncated { at });
            }
            Major::Items(count) => count,
        };
        let body = if let Major::Text(length) = header.major { length } else { 0 };
        if inner > 0 {
            open.push(inner).map_err(|_| CodecError::TooDeep { at })?;
        }
        at = header.end + body;
        if inner > 0 {
            continue;
        }
        while let Some(left) = open.last_mut() {
            *left -= 1;
            if *left > 0 {
                break;
            }
            open.pop();
        }
        if open.is_empty() {
            return if at == bytes.len() { Ok(()) } else { Err(CodecError::Malformed { at }) };
        }
    }
}

/// The head of one item (RFC 8949, section 3).
struct Header {
    major: Major,
    end: usize,
}

enum Major {
    /// A number, a simple value, a float.
    Scalar,
    /// A byte or text string of this length.
    Text(usize),
    /// An array or map with this many items in it; a tag counts as one.
    Items(usize),
}

impl Header {
    fn read(bytes: &[u8], at: usize) -> Result<Self, CodecError> {
        let first = *bytes.get(at).ok_or(CodecError::Truncated { at })?;
        let extra = match first & 0x1f {
            0..=23 => 0,
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            _ => return Err(CodecError::Malformed { at }),
        };
        let end = at + 1 + extra;
        let argument = bytes.get(at + 1..end).ok_or(CodecError::Truncated { at })?;
        let value = match extra {
            0 => u64::from(first & 0x1f),
            _ => argument.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)),
        };
        let length = || usize::try_from(value).map_err(|_| CodecError::Truncated { at });
        let major = match first >> 5 {
            2 | 3 => Major::Text(length()?),
            4 => Major::Items(length()?),
            5 => Major::Items(length()?.checked_mul(2).ok_or(CodecError::Truncated { at })?),
            6 => Major::Items(1),
            _ => Major::Scalar,
        };
        Ok(Self { major, end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assignment::{AssignedService, Assignment, Generation};
    use crate::id::{Slot, SpecHash};
    use alloc::vec;

    fn assignment() -> Assignment {
        Assignment {
            node: "n1".parse().unwrap(),
            generation: Generation { epoch: 1, number: 2 },
            services: vec![AssignedService::new(
                "shop".parse().unwrap(),
                "web".parse().unwrap(),
                SpecHash([9; 32]),
                vec![Slot(1), Slot(2)],
            )],
            network: None,
        }
    }

    #[test]
    fn another_cbor_library_reads_and_writes_the_same_bytes() {
        let ours = encode(&assignment()).unwrap();
        let mut theirs = vec![];
        ciborium::into_writer(&assignment(), &mut theirs).unwrap();
        assert_eq!(ours, theirs);
        assert_eq!(decode::<Assignment>(&ours).unwrap(), assignment());
    }

    #[test]
    fn every_prefix_is_refused_and_nothing_panics() {
        let bytes = encode(&assignment()).unwrap();
        for end in 0..bytes.len() {
            assert!(decode::<Assignment>(&bytes[..end]).is_err());
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert!(matches!(decode::<Assignment>(&longer), Err(CodecError::Malformed { .. })));
    }

    #[test]
    fn hostile_bytes_are_refused_before_allocation() {
        let deep = [vec![0x81; 1_000_000], vec![0]].concat();
        assert!(matches!(check(&deep), Err(CodecError::TooDeep { .. })));
        for lie in [
            &[0x9b, 0x7f, 255, 255, 255, 255, 255, 255, 255][..],
            &[0xbb, 255, 255, 255, 255, 255, 255, 255, 255],
            &[0x5b, 0, 0, 0, 128, 0, 0, 0, 0],
        ] {
            assert!(matches!(check(lie), Err(CodecError::Truncated { .. })), "{lie:x?}");
        }
        assert!(matches!(check(&[0x9f, 0xff]), Err(CodecError::Malformed { .. })));
        let many = [vec![0x9a, 0, 1, 0, 1], vec![0; 65_537]].concat();
        assert!(matches!(check(&many), Err(CodecError::TooMany { .. })));
        assert!(matches!(decode_within::<u8>(&[0, 0], 1), Err(CodecError::TooLarge { .. })));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_get_an_answer(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..256)) {
            let ok = check(&bytes).is_ok();
            if decode::<Assignment>(&bytes).is_ok() { assert!(ok); }
        }
    }
}
