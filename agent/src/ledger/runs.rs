//! Which runs of schedules have begun: a file in the data folder, so that a reboot repeats none.
//!
//! In: a [`Record`]. Out: the same after a power cut, or the one before it. Written once a run.

use std::io;
use std::path::{Path, PathBuf};

use super::{LedgerError, durable};
use crate::schedule::Record;

const FILE: &str = "runs.json";
/// Two lines for each instance that a node may have, with the longest names and schedules.
const MAX_BYTES: u64 = 1024 * 1024;

/// The file.
#[derive(Debug, Clone)]
pub struct RunsFile {
    path: PathBuf,
}

impl RunsFile {
    /// Where it is in the data folder.
    #[must_use]
    pub fn of(data: &Path) -> Self {
        Self { path: data.join(FILE) }
    }

    /// What was kept, and what is wrong with it if something is: then every schedule begins anew.
    #[must_use]
    pub fn read(&self) -> (Record, Option<String>) {
        let read = durable::read_bounded(&self.path, MAX_BYTES);
        match read.and_then(|bytes| Ok(serde_json::from_slice(&bytes)?)) {
            Ok(record) => (record, None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Record::default(), None),
            Err(error) => {
                let path = self.path.display();
                let problem =
                    format!("the record of runs {path} is damaged ({error}); schedules begin anew");
                (Record::default(), Some(problem))
            }
        }
    }

    /// Keeps a record.
    ///
    /// # Errors
    /// [`LedgerError`] if it cannot be written.
    pub fn write(&self, record: &Record) -> Result<(), LedgerError> {
        let failed = |source| LedgerError { attempt: "write", path: self.path.clone(), source };
        let bytes = serde_json::to_vec(record).map_err(|error| failed(error.into()))?;
        durable::write_and_sync(&self.path, &bytes).map_err(failed)
    }
}
