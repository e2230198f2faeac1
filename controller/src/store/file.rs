//! Opening the file: the lock, the schema, the first content.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use redb::{Builder, Database, DatabaseError, ReadableDatabase, StorageError};

use super::error::StoreError;
use super::identity::Identity;
use super::layout::{COMPACTED, EVENTS, KV, LOG, META, REVISION, SCHEMA, SCHEMA_NUMBER, number};

/// Page cache of redb, whose own default is 1 GiB: a fleet of 2,000 nodes has a store of some
/// 20 MB, and a controller may run on a board.
const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// Opens the file, makes it if it is not there, and checks every page of it.
pub(super) fn open(path: &Path) -> Result<Database, StoreError> {
    let opened = touch_private(path)
        .map_err(DatabaseError::from)
        // A damaged file must give an error: a plain open trusts it and may panic later.
        .and_then(|()| {
            Builder::new()
                .set_cache_size(CACHE_BYTES)
                .set_check_integrity_on_open(true)
                .create(path)
        });
    let database = opened.map_err(|error| open_error(path, error))?;
    match schema(&database)? {
        Some(SCHEMA_NUMBER) => {}
        Some(found) => {
            return Err(StoreError::UnknownSchema {
                path: path.to_owned(),
                found,
                known: SCHEMA_NUMBER,
            });
        }
        None => found_store(&database)?,
    }
    Ok(database)
}

/// The file holds the signing key: it is its owner's alone from its first byte on.
fn touch_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(path).map(drop)
}

fn open_error(path: &Path, error: DatabaseError) -> StoreError {
    let path = path.to_owned();
    let corrupt = match &error {
        DatabaseError::DatabaseAlreadyOpen => return StoreError::InUse { path },
        DatabaseError::UpgradeRequired(_) | DatabaseError::RepairAborted => true,
        DatabaseError::Storage(StorageError::Corrupted(_)) => true,
        DatabaseError::Storage(StorageError::Io(io)) => {
            matches!(io.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof)
        }
        _ => false,
    };
    let source = Arc::new(redb::Error::from(error));
    if corrupt { StoreError::Corrupt { path, source } } else { StoreError::Open { path, source } }
}

fn schema(database: &Database) -> Result<Option<u64>, StoreError> {
    let reading = database.begin_read().map_err(|e| StoreError::read(SCHEMA, e))?;
    let meta = match reading.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(StoreError::read(SCHEMA, error)),
    };
    let value = meta.get(SCHEMA).map_err(|e| StoreError::read(SCHEMA, e))?;
    let Some(value) = value else { return Ok(None) };
    let undecodable = || StoreError::Undecodable { what: SCHEMA.to_owned() };
    number(value.value()).map(Some).ok_or_else(undecodable)
}

/// Writes the first content of a new store, all of it in one commit.
fn found_store(database: &Database) -> Result<(), StoreError> {
    let identity = Identity::make()?;
    let writing = database.begin_write().map_err(StoreError::write)?;
    {
        let mut meta = writing.open_table(META).map_err(StoreError::write)?;
        let mut put = |name: &str, bytes: &[u8]| {
            meta.insert(name, bytes).map(drop).map_err(StoreError::write)
        };
        put(SCHEMA, &SCHEMA_NUMBER.to_be_bytes())?;
        put(REVISION, &0_u64.to_be_bytes())?;
        put(COMPACTED, &0_u64.to_be_bytes())?;
        for (name, bytes) in &identity {
            put(name, bytes)?;
        }
        writing.open_table(KV).map_err(StoreError::write)?;
        writing.open_table(LOG).map_err(StoreError::write)?;
        writing.open_table(EVENTS).map_err(StoreError::write)?;
    }
    writing.commit().map_err(StoreError::write)
}
