//! Which start of the node's kernel this is: a counter in the data folder.
//!
//! In: the kernel's boot id. Out: a number that grows with every boot, also on a board without a
//! clock. The file is written once a boot.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{LedgerError, durable};

const FILE: &str = "boot.json";
const MAX_BYTES: u64 = 4096;

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    boot_id: String,
    count: u64,
}

/// The number of this boot, and what was wrong with the record if something was.
#[derive(Debug, PartialEq, Eq)]
pub struct Boot {
    /// Grows with every boot.
    pub count: u64,
    /// For people.
    pub problem: Option<String>,
}

/// Counts this boot. `boot_id` is the kernel's, `now_s` the node's clock in seconds since 1970.
///
/// # Errors
/// [`LedgerError`] if the record cannot be written.
pub fn count(data: &Path, boot_id: &str, now_s: u64) -> Result<Boot, LedgerError> {
    let path = data.join(FILE);
    let (before, problem) = match read(&path) {
        Ok(before) => (before, None),
        // The count is lost. Seconds since 1970 are greater than any count of boots, and the
        // counting goes on from there.
        Err(error) => {
            let record = Record { boot_id: String::new(), count: now_s };
            let problem = format!(
                "boot record {} is damaged ({error}); counting goes on from the clock",
                path.display()
            );
            (Some(record), Some(problem))
        }
    };
    if let Some(record) = &before
        && record.boot_id == boot_id
    {
        return Ok(Boot { count: record.count, problem });
    }
    let count = before.map_or(0, |record| record.count).saturating_add(1);
    let failed = |source| LedgerError { attempt: "write", path: path.clone(), source };
    let record = Record { boot_id: boot_id.to_owned(), count };
    let bytes = serde_json::to_vec(&record).map_err(|error| failed(error.into()))?;
    durable::write_and_sync(&path, &bytes).map_err(failed)?;
    Ok(Boot { count, problem })
}

fn read(path: &Path) -> io::Result<Option<Record>> {
    match durable::read_bounded(path, MAX_BYTES) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
