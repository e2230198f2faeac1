//! Watches: every change after a revision, in order, without a gap.
//!
//! A watch reads the log and waits only for "there is more", so a slow watcher costs nothing and
//! misses nothing until compaction overtakes it, which it is told.

use std::collections::VecDeque;

use super::error::{StoreError, WatchError};
use super::{Change, Revision, Store, reading};

/// Revisions that are read at once.
const BATCH: usize = 64;

/// A place in the log of changes.
#[derive(Debug)]
pub struct Watch {
    store: Store,
    /// The last revision that was read.
    after: Revision,
    /// Changes that were read and not yet given.
    read: VecDeque<Change>,
    revision: tokio::sync::watch::Receiver<Revision>,
}

impl Watch {
    pub(super) fn new(store: Store, after: Revision) -> Self {
        let revision = store.subscribe();
        Self { store, after, read: VecDeque::new(), revision }
    }

    /// The next change, when there is one. May be dropped and called again at any time.
    ///
    /// # Errors
    /// [`WatchError::Compacted`] if changes were forgotten that this watch has not seen,
    /// [`WatchError::Closed`] if the store failed. Neither goes away by calling again.
    pub async fn next(&mut self) -> Result<Change, WatchError> {
        loop {
            if let Some(change) = self.read.pop_front() {
                return Ok(change);
            }
            let newest = *self.revision.borrow_and_update();
            if newest > self.after {
                self.fill()?;
            } else {
                self.revision.changed().await.map_err(|_| WatchError::Closed)?;
            }
        }
    }

    /// All changes of the next revision that has some, when there is one. May be dropped and
    /// called again at any time.
    ///
    /// # Errors
    /// As [`Watch::next`].
    pub async fn next_revision(&mut self) -> Result<Vec<Change>, WatchError> {
        let mut changes = vec![self.next().await?];
        // A revision is read whole, so the rest of it is here.
        let revision = changes[0].revision;
        while self.read.front().is_some_and(|change| change.revision == revision) {
            changes.extend(self.read.pop_front());
        }
        Ok(changes)
    }

    /// Whether this watch can go on, without waiting.
    ///
    /// # Errors
    /// As [`Watch::next`].
    pub fn check(&mut self) -> Result<(), WatchError> {
        if self.read.is_empty() && self.store.revision() > self.after {
            self.fill()
        } else {
            Ok(())
        }
    }

    fn fill(&mut self) -> Result<(), WatchError> {
        let database = &self.store.shared.database;
        let slice = reading::log(database, self.after, BATCH).map_err(|error: StoreError| {
            tracing::error!(%error, "a watch ends");
            WatchError::Closed
        })?;
        if self.after < slice.oldest {
            return Err(WatchError::Compacted { oldest: slice.oldest });
        }
        self.after = slice.last;
        self.read.extend(slice.changes);
        Ok(())
    }
}
