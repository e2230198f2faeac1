//! A figure that is published on a topic → a number, or why there is none.
//!
//! What anybody may have written is read here: one decimal number in text and nothing else, so that what a
//! person types, a shell prints and a program formats all mean the same.

use serde::{Deserialize, Serialize};

use crate::limits::MAX_PUBLISHED_BYTES;

/// Digits before the point: in thousandths they fit any counter.
const MAX_DIGITS: usize = 15;
/// Digits behind it that count.
const FINE_DIGITS: usize = 3;

/// Why a figure could not be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// Nothing was published since the node listens.
    Unheard,
    /// The last one is too old to count ([`crate::limits::PUBLISHED_COUNTS_MS`]).
    Old,
    /// What was published is no decimal number.
    NoNumber,
    /// It is below 0.
    Negative,
    /// It is greater than any figure.
    TooLarge,
    /// The node listens to no more topics.
    TooMany,
    /// Of one that is asked for: nobody answers at the port and path.
    NoAnswer,
    /// There is an answer, and in it no such series that is a number.
    NoSeries,
    /// Something that the reader does not know.
    #[serde(other)]
    Other,
}

impl Missing {
    /// As lists show it to people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unheard => "nothing was published yet",
            Self::Old => "the last one was published more than 60 s ago",
            Self::NoNumber => "what was published is no decimal number",
            Self::Negative => "a number below 0 was published",
            Self::TooLarge => "the number that was published is too large",
            Self::TooMany => "the node listens to too many topics",
            Self::NoAnswer => "nobody answers at its port and path",
            Self::NoSeries => "the answer has no such series",
            Self::Other => "it cannot be had",
        }
    }
}

/// What was published, in thousandths; digits behind the third are cut off.
///
/// ```
/// use limpet_protocol::scale::{Missing, published};
/// assert_eq!(published(b"42"), Ok(42_000));
/// assert_eq!(published(b" 0.0625\n"), Ok(62));
/// assert_eq!(published(b"-1"), Err(Missing::Negative));
/// assert_eq!(published(b"NaN"), Err(Missing::NoNumber));
/// ```
///
/// # Errors
/// [`Missing`] says what is wrong with it.
pub fn published(payload: &[u8]) -> Result<u64, Missing> {
    if payload.len() > MAX_PUBLISHED_BYTES {
        return Err(Missing::NoNumber);
    }
    let text = payload.trim_ascii();
    let (text, is_negative) = match text.strip_prefix(b"-") {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let point = text.iter().position(|byte| *byte == b'.');
    let (whole, fine) = match point {
        Some(point) => (&text[..point], &text[point + 1..]),
        None => (text, &[][..]),
    };
    let digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    if whole.is_empty() || !digits(whole) || !digits(fine) || (point.is_some() && fine.is_empty()) {
        return Err(Missing::NoNumber);
    }
    let leading = whole.iter().take_while(|digit| **digit == b'0').count();
    let whole = &whole[leading..];
    if whole.len() > MAX_DIGITS {
        return Err(if is_negative { Missing::Negative } else { Missing::TooLarge });
    }
    let fine = fine.iter().copied().chain(core::iter::repeat(b'0')).take(FINE_DIGITS);
    let thousandths =
        whole.iter().copied().chain(fine).fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    match thousandths {
        0 => Ok(0),
        _ if is_negative => Err(Missing::Negative),
        thousandths => Ok(thousandths),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    #[test]
    fn numbers_and_what_is_none() {
        for (text, expected) in [
            ("0", Ok(0)),
            ("-0", Ok(0)),
            ("-0.0001", Ok(0)),
            ("007.5", Ok(7_500)),
            ("1.23456", Ok(1_234)),
            ("\t12\r\n", Ok(12_000)),
            ("999999999999999.999", Ok(999_999_999_999_999_999)),
            ("1000000000000000", Err(Missing::TooLarge)),
            ("-1000000000000000", Err(Missing::Negative)),
            ("00000000000000000000000000000001", Ok(1_000)),
            ("000000000000000000000000000000001", Err(Missing::NoNumber)),
            ("-0.5", Err(Missing::Negative)),
            ("", Err(Missing::NoNumber)),
            ("  ", Err(Missing::NoNumber)),
            ("-", Err(Missing::NoNumber)),
            ("+1", Err(Missing::NoNumber)),
            ("--1", Err(Missing::NoNumber)),
            (".", Err(Missing::NoNumber)),
            (".5", Err(Missing::NoNumber)),
            ("5.", Err(Missing::NoNumber)),
            ("1.2.3", Err(Missing::NoNumber)),
            ("1,5", Err(Missing::NoNumber)),
            ("1e3", Err(Missing::NoNumber)),
            ("0x10", Err(Missing::NoNumber)),
            ("NaN", Err(Missing::NoNumber)),
            ("inf", Err(Missing::NoNumber)),
            ("\u{663}", Err(Missing::NoNumber)),
            ("12 34", Err(Missing::NoNumber)),
            ("{\"value\": 12}", Err(Missing::NoNumber)),
        ] {
            assert_eq!(published(text.as_bytes()), expected, "{text:?}");
        }
        assert_eq!(published(&[0xff, 0xfe]), Err(Missing::NoNumber));
        assert_eq!(published(&[b'1'; 100_000]), Err(Missing::NoNumber));
    }

    proptest::proptest! {
        /// Any bytes get an answer, and a number that is written out is read back.
        #[test]
        fn any_payload_gets_an_answer(bytes in proptest::collection::vec(0_u8..=255, 0..40), number in 0_u64..1_000_000_000_000_000_000) {
            if let Ok(thousandths) = published(&bytes) {
                proptest::prop_assert!(thousandths < 1_000_000_000_000_000_000);
            }
            let text = alloc::format!("{}.{:03}", number / 1_000, number % 1_000);
            proptest::prop_assert_eq!(published(text.as_bytes()), Ok(number));
        }
    }

    #[test]
    fn a_reason_of_a_newer_node_is_read_as_another_one() {
        let bytes = codec::encode(&"moon").unwrap();
        assert_eq!(codec::decode::<Missing>(&bytes).unwrap(), Missing::Other);
        let bytes = codec::encode(&Missing::NoNumber).unwrap();
        assert_eq!(codec::decode::<Missing>(&bytes).unwrap(), Missing::NoNumber);
    }
}
