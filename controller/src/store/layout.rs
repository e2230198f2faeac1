//! The file: its tables, and how their values look.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | name | 8 bytes big-endian, or the bytes of the key pair and the cluster's id |
//! | `kv` | `kind/name` | modified, created, version (8 bytes each, big-endian), then the value |
//! | `log` | revision | the changes of that revision, see [`encode_changes`] |
//! | `events` | id | an [`super::records::EventRecord`] in CBOR |

use redb::TableDefinition;

use super::{Change, Entry, Key, Revision};

pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
pub(super) const KV: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("kv");
pub(super) const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
pub(super) const EVENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("events");

pub(super) const SCHEMA: &str = "schema";
pub(super) const REVISION: &str = "revision";
pub(super) const COMPACTED: &str = "compacted";
pub(super) const EPOCH: &str = "epoch";
pub(super) const CLUSTER_ID: &str = "cluster_id";
pub(super) const SIGNING_KEY: &str = "signing_key";

/// The schema that this program writes.
pub(super) const SCHEMA_NUMBER: u64 = 1;

/// Bytes before the value in `kv`.
const ENTRY_HEAD: usize = 24;

pub(super) fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

pub(super) fn encode_entry(entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ENTRY_HEAD + entry.value.len());
    for number in [entry.modified.0, entry.created.0, entry.version] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes.extend_from_slice(&entry.value);
    bytes
}

pub(super) fn decode_entry(bytes: &[u8]) -> Option<Entry> {
    let (head, value) = bytes.split_at_checked(ENTRY_HEAD)?;
    let at = |index: usize| number(&head[index * 8..index * 8 + 8]);
    Some(Entry {
        modified: Revision(at(0)?),
        created: Revision(at(1)?),
        version: at(2)?,
        value: value.to_vec(),
    })
}

/// One change as the writer applies it: the key, and the new value if there is one.
pub(super) type KeyChange = (Key, Option<Vec<u8>>);

/// Each change: length of the key (4 bytes), the key, 1 for put and 0 for delete, and for a put
/// the length of the value (4 bytes) and the value.
///
/// Lengths are below [`super::MAX_VALUE_BYTES`], so 4 bytes hold them.
pub(super) fn encode_changes(changes: &[KeyChange]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let put = |bytes: &mut Vec<u8>, part: &[u8]| {
        let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(part);
    };
    for (key, value) in changes {
        put(&mut bytes, key.to_text().as_bytes());
        bytes.push(u8::from(value.is_some()));
        if let Some(value) = value {
            put(&mut bytes, value);
        }
    }
    bytes
}

/// The changes of one revision; none if the bytes are not what [`encode_changes`] writes.
/// A key of a kind that this version does not know is left out.
pub(super) fn decode_changes(revision: Revision, mut bytes: &[u8]) -> Option<Vec<Change>> {
    let mut changes = Vec::new();
    while !bytes.is_empty() {
        let key = std::str::from_utf8(take_part(&mut bytes)?).ok()?;
        let (op, rest) = bytes.split_first()?;
        bytes = rest;
        let value = match op {
            0 => None,
            1 => Some(take_part(&mut bytes)?.to_vec()),
            _ => return None,
        };
        if let Some(key) = Key::from_text(key) {
            changes.push(Change { revision, key, value });
        }
    }
    Some(changes)
}

fn take_part<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (part, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    *bytes = rest;
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_and_changes_go_both_ways() {
        let entry =
            Entry { value: vec![1, 2, 3], created: Revision(4), modified: Revision(9), version: 2 };
        assert_eq!(decode_entry(&encode_entry(&entry)), Some(entry));
        let key = Key::Node("n1".parse().unwrap());
        let changes = vec![(key.clone(), Some(vec![7; 300])), (key.clone(), None)];
        let bytes = encode_changes(&changes);
        let decoded = decode_changes(Revision(5), &bytes).unwrap();
        assert_eq!(decoded.len(), 2);
        assert_eq!(decoded[0].value.as_deref(), Some(&[7; 300][..]));
        assert_eq!((decoded[1].key.clone(), decoded[1].value.clone()), (key, None));
    }

    #[test]
    fn damaged_values_are_refused() {
        assert_eq!(decode_entry(&[0; 23]), None);
        let key = Key::Node("n1".parse().unwrap());
        let bytes = encode_changes(&[(key, Some(vec![7; 30]))]);
        for cut in 1..bytes.len() {
            assert_eq!(decode_changes(Revision(1), &bytes[..cut]), None, "cut at {cut}");
        }
        assert_eq!(decode_changes(Revision(1), &[0xff; 40]), None);
    }
}
