//! The record of a container: what a later keeper needs to take it over, in memory-backed files.

use std::fs;
use std::io;
use std::path::Path;

use limpet_protocol::codec;
use limpet_protocol::id::SpecHash;
use limpet_protocol::report::Exit;
use limpet_protocol::spec::LogPolicy;
use serde::{Deserialize, Serialize};

/// The record's name in the bundle.
const NAME: &str = "record";
/// Its name while it is written.
const NEW_NAME: &str = "record.new";
/// Largest record that is read: they take about 200 bytes.
const MAX_BYTES: usize = 4096;

/// What is kept of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub id: String,
    pub spec: SpecHash,
    pub started_ms: u64,
    pub log: LogPolicy,
    pub status: RecordStatus,
    /// The signal that ends it; none in what an older keeper wrote.
    #[serde(default)]
    pub stop_signal: Option<i32>,
}

/// How far it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RecordStatus {
    /// It is being made.
    Creating,
    /// It runs. With the start time a process id is unique.
    Running { pid: u32, start_time: u64 },
    /// It ended.
    Exited(Exit),
}

impl Record {
    /// Writes it into a bundle, whole or not at all.
    pub(super) fn save(&self, bundle: &Path) -> io::Result<()> {
        let bytes = codec::encode_within(self, MAX_BYTES).map_err(io::Error::other)?;
        fs::write(bundle.join(NEW_NAME), bytes)?;
        fs::rename(bundle.join(NEW_NAME), bundle.join(NAME))
    }

    /// Reads the record of a bundle.
    pub(crate) fn load(bundle: &Path) -> io::Result<Self> {
        let bytes = fs::read(bundle.join(NAME))?;
        codec::decode_within(&bytes, MAX_BYTES).map_err(io::Error::other)
    }
}

/// When a process was started, in ticks since boot: field 22 of its `stat`.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        for status in [
            RecordStatus::Creating,
            RecordStatus::Running { pid: 7, start_time: 8 },
            RecordStatus::Exited(Exit { code: None, out_of_memory: true }),
        ] {
            let record = Record {
                id: "a.b.1.1".to_owned(),
                spec: SpecHash([3; 32]),
                started_ms: 5,
                log: LogPolicy::default(),
                status,
                stop_signal: Some(3),
            };
            record.save(folder.path()).unwrap();
            assert_eq!(Record::load(folder.path()).unwrap(), record);
        }
        fs::write(folder.path().join(NAME), b"garbage").unwrap();
        assert!(Record::load(folder.path()).is_err());
    }

    #[test]
    fn this_process_has_a_start_time() {
        assert!(start_time(std::process::id()).is_some_and(|ticks| ticks > 0));
        assert_eq!(start_time(u32::MAX), None);
    }
}
