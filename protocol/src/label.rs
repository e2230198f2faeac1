//! Labels of nodes: what `node.labels.KEY` in a placement constraint can name.
//!
//! In: a key and a value as people write them. Out: nothing, or what is wrong with them. Keys are those
//! that every tool around can write (letters, digits and `-_./`, as Kubernetes and Docker Swarm have
//! them); a key ends with a letter or digit, because `KEY-` takes a label away.

use crate::limits::{MAX_LABEL_KEY_BYTES, MAX_LABEL_VALUE_BYTES};

/// Why a label is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// Nothing before the `=`.
    #[error("the key is empty")]
    EmptyKey,
    /// A key that is too long.
    #[error("the key has {bytes} bytes, at most {MAX_LABEL_KEY_BYTES}")]
    LongKey {
        /// How many it has.
        bytes: usize,
    },
    /// A key with a character that it may not have there.
    #[error(
        "{character:?} at position {position} of the key; letters, digits and -_./ are allowed, a \
         letter or digit (or _) first, a letter or digit last"
    )]
    Key {
        /// The character.
        character: char,
        /// Where, counted from 0.
        position: usize,
    },
    /// A value that is too long.
    #[error("the value has {bytes} bytes, at most {MAX_LABEL_VALUE_BYTES}")]
    LongValue {
        /// How many it has.
        bytes: usize,
    },
    /// A value with a control character.
    #[error("the value has the control character {character:?}")]
    Value {
        /// The character.
        character: char,
    },
}

/// Whether a key and a value make a label.
///
/// # Errors
/// [`LabelError`] says what is wrong.
pub fn check(key: &str, value: &str) -> Result<(), LabelError> {
    check_key(key)?;
    if value.len() > MAX_LABEL_VALUE_BYTES {
        return Err(LabelError::LongValue { bytes: value.len() });
    }
    match value.chars().find(|character| character.is_control()) {
        Some(character) => Err(LabelError::Value { character }),
        None => Ok(()),
    }
}

/// Whether a text can be the key of a label.
///
/// # Errors
/// [`LabelError`] says what is wrong.
pub fn check_key(key: &str) -> Result<(), LabelError> {
    if key.is_empty() {
        return Err(LabelError::EmptyKey);
    }
    if key.len() > MAX_LABEL_KEY_BYTES {
        return Err(LabelError::LongKey { bytes: key.len() });
    }
    let last = key.chars().count() - 1;
    let legal = |position: usize, character: char| {
        let plain = character.is_ascii_alphanumeric();
        let first = position == 0 && character == '_';
        let between = position > 0 && position < last && matches!(character, '-' | '_' | '.' | '/');
        plain || (first && last > 0) || between
    };
    match key.chars().enumerate().find(|&(position, character)| !legal(position, character)) {
        Some((position, character)) => Err(LabelError::Key { character, position }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_what_constraints_can_name() {
        for (key, value) in [
            ("site", "north"),
            ("a", ""),
            ("example.com/rack-7", "x = y, z"),
            ("_hidden", "ä"),
            ("7", "7"),
        ] {
            assert_eq!(check(key, value), Ok(()), "{key}={value}");
        }
        for (key, position) in
            [("site-", 4), ("-site", 0), (".a", 0), ("a b", 1), ("ä", 0), ("a=b", 1), ("_", 0)]
        {
            let wrong = check(key, "");
            assert!(
                matches!(wrong, Err(LabelError::Key { position: at, .. }) if at == position),
                "{key}: {wrong:?}"
            );
        }
        assert_eq!(check("", "x"), Err(LabelError::EmptyKey));
        assert_eq!(check("a", "x\ny"), Err(LabelError::Value { character: '\n' }));
        let long = "a".repeat(MAX_LABEL_KEY_BYTES + 1);
        assert_eq!(check(&long, ""), Err(LabelError::LongKey { bytes: long.len() }));
        let long = "a".repeat(MAX_LABEL_VALUE_BYTES + 1);
        assert_eq!(check("a", &long), Err(LabelError::LongValue { bytes: long.len() }));
    }
}
