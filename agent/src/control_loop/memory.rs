//! What the agent must not forget within a boot: numbers that may not be used twice, and how the tries
//! went that a restart policy counts.
//!
//! In: attempt numbers, tries and the number of the newest event. Out: a small file in the memory-backed
//! folder, written when they change; a reboot clears it, and the boot counter makes that harmless.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::reconcile::{Attempts, Past};

const FILE: &str = "agent.json";
/// Attempt numbers of some thousand slots.
const MAX_BYTES: u64 = 1024 * 1024;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// Only what was written in this boot counts.
    boot: u64,
    #[serde(default)]
    attempts: Attempts,
    #[serde(default)]
    past: Past,
    #[serde(default)]
    last_event: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Memory {
    path: PathBuf,
    kept: Record,
    /// A failure was told: it is told once.
    failed: bool,
}

impl Memory {
    /// What an earlier run of the agent left in this boot. A file that cannot be read counts as none:
    /// the numbers then begin anew, which people may notice and nothing depends on.
    #[must_use]
    pub fn open(run: &Path, boot: u64) -> Self {
        let path = run.join(FILE);
        let read = || -> std::io::Result<Record> {
            use std::io::Read as _;
            let mut bytes = Vec::new();
            std::fs::File::open(&path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
            Ok(serde_json::from_slice(&bytes)?)
        };
        let kept = read().ok().filter(|record| record.boot == boot);
        let kept = kept.unwrap_or(Record { boot, ..Record::default() });
        Self { path, kept, failed: false }
    }

    /// The attempt numbers.
    #[must_use]
    pub fn attempts(&self) -> &Attempts {
        &self.kept.attempts
    }

    /// How the tries went.
    #[must_use]
    pub fn past(&self) -> &Past {
        &self.kept.past
    }

    /// The number of the newest event.
    #[must_use]
    pub fn last_event(&self) -> u64 {
        self.kept.last_event
    }

    /// Keeps them if they changed.
    pub fn keep(&mut self, attempts: &Attempts, past: Past, last_event: u64) {
        let kept = &self.kept;
        if kept.attempts == *attempts && kept.past == past && kept.last_event == last_event {
            return;
        }
        self.kept = Record { boot: self.kept.boot, attempts: attempts.clone(), past, last_event };
        let temporary = self.path.with_extension("tmp");
        let write = || -> std::io::Result<()> {
            std::fs::write(&temporary, serde_json::to_vec(&self.kept)?)?;
            std::fs::rename(&temporary, &self.path)
        };
        if let Err(error) = write()
            && !std::mem::replace(&mut self.failed, true)
        {
            tracing::warn!("write {}: {error}", self.path.display());
        }
    }
}
