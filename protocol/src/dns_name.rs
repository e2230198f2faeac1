//! Further names that a node's name server answers to: aliases of services in their networks.
//!
//! In: a text. Out: nothing, or what is wrong with it. Lengths are those of RFC 1035, 2.3.4; labels are of
//! letters, digits, `-` and `_` (names of services have underscores, and DNS itself forbids nothing:
//! RFC 2181, section 11); the last label is not a number, because the whole could then be an address
//! (RFC 1123, 2.1).

/// Longest name: 255 octets on the wire, with the length of the first label and the root at the end.
const MAX_NAME_BYTES: usize = 253;
/// Longest label.
const MAX_LABEL_BYTES: usize = 63;

/// Why a text is no name for DNS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DnsNameError {
    /// Nothing there.
    #[error("it is empty")]
    Empty,
    /// Longer than a name may be.
    #[error("it has {bytes} bytes, at most {MAX_NAME_BYTES}")]
    Long {
        /// How many it has.
        bytes: usize,
    },
    /// A part between two dots is empty or too long.
    #[error("each part between dots has 1 to {MAX_LABEL_BYTES} characters")]
    Label,
    /// A character that a part may not have there.
    #[error(
        "{character:?} is not allowed; use letters, digits, '-' and '_', no '-' at an end of a part"
    )]
    Character {
        /// The character.
        character: char,
    },
    /// It looks like an address.
    #[error("its last part is a number, as of an address")]
    Number,
}

/// Whether a text is a name that DNS can ask for.
///
/// ```
/// use limpet_protocol::dns_name::check;
/// assert!(check("db").is_ok() && check("api.example.com").is_ok() && check("my_db").is_ok());
/// assert!(check("").is_err() && check("a..b").is_err() && check("-a").is_err());
/// assert!(check("10.0.0.1").is_err() && check("a b").is_err());
/// ```
///
/// # Errors
/// [`DnsNameError`] says what is wrong.
pub fn check(name: &str) -> Result<(), DnsNameError> {
    if name.is_empty() {
        return Err(DnsNameError::Empty);
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(DnsNameError::Long { bytes: name.len() });
    }
    for label in name.split('.') {
        if label.is_empty() || label.len() > MAX_LABEL_BYTES {
            return Err(DnsNameError::Label);
        }
        let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if let Some(character) = label.chars().find(|c| !plain(c)) {
            return Err(DnsNameError::Character { character });
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(DnsNameError::Character { character: '-' });
        }
    }
    match name.rsplit('.').next() {
        Some(last) if last.bytes().all(|byte| byte.is_ascii_digit()) => Err(DnsNameError::Number),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn labels_and_names_have_their_lengths() {
        let label = "a".repeat(63);
        assert_eq!(check(&label), Ok(()));
        assert_eq!(check(&(label.clone() + "a")), Err(DnsNameError::Label));
        let long = [label.as_str(); 4].join(".");
        assert_eq!(check(&long), Err(DnsNameError::Long { bytes: 255 }));
        assert_eq!(check(&long[2..]), Ok(()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (name, wrong) in [
            ("ä", DnsNameError::Character { character: 'ä' }),
            ("a-.b", DnsNameError::Character { character: '-' }),
            ("a.", DnsNameError::Label),
            ("7", DnsNameError::Number),
            ("a.7", DnsNameError::Number),
        ] {
            assert_eq!(check(name), Err(wrong), "{name}");
        }
        assert_eq!(check("7a"), Ok(()));
        assert!(DnsNameError::Number.to_string().contains("address"));
    }
}
