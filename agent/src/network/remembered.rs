//! What neighbours said last, kept over a restart of the agent.
//!
//! In: what they say. Out: a small file in the memory-backed folder, which counts in the same boot only.
//! Without it the rules of an agent that starts again would lack every instance of other nodes until those
//! have spoken, and connections to them would be cut.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use limpet_protocol::id::NodeId;
use limpet_protocol::network::Neighbour;
use serde::{Deserialize, Serialize};

const FILE: &str = "neighbours.json";
/// As many peers as there can be with some thousand instances each.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    boot: u64,
    said: BTreeMap<NodeId, Neighbour>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Remembered {
    path: PathBuf,
    boot: u64,
}

impl Remembered {
    pub(super) fn new(run: &Path, boot: u64) -> Self {
        Self { path: run.join(FILE), boot }
    }

    /// What was said in this boot. A file that cannot be read counts as none: neighbours say it again.
    pub(super) fn read(&self) -> BTreeMap<NodeId, Neighbour> {
        let read = || -> std::io::Result<Record> {
            let mut bytes = Vec::new();
            std::fs::File::open(&self.path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
            Ok(serde_json::from_slice(&bytes)?)
        };
        read().ok().filter(|record| record.boot == self.boot).unwrap_or_default().said
    }

    /// Keeps what was said. A failure costs no more than the file is for.
    pub(super) fn write(&self, said: &BTreeMap<NodeId, Neighbour>) {
        #[derive(Serialize)]
        struct Borrowed<'a> {
            boot: u64,
            said: &'a BTreeMap<NodeId, Neighbour>,
        }
        let temporary = self.path.with_extension("tmp");
        let write = || -> std::io::Result<()> {
            std::fs::write(&temporary, serde_json::to_vec(&Borrowed { boot: self.boot, said })?)?;
            std::fs::rename(&temporary, &self.path)
        };
        if let Err(error) = write() {
            tracing::debug!("write {}: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_counts_in_its_boot_only() {
        let folder = tempfile::tempdir().unwrap();
        let remembered = Remembered::new(folder.path(), 7);
        assert!(remembered.read().is_empty());
        let said = BTreeMap::from([("n2".parse().unwrap(), Neighbour { instances: vec![] })]);
        remembered.write(&said);
        assert_eq!(remembered.read(), said);
        assert!(Remembered::new(folder.path(), 8).read().is_empty());
        std::fs::write(folder.path().join(FILE), b"{").unwrap();
        assert!(remembered.read().is_empty());
    }
}
