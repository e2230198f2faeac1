//! Logs: what a container wrote, read back from the files that the keeper keeps.
//!
//! In: a container's name and how many of its last lines are wanted. Out: [`LogLine`]s in the
//! order in which they were written. The reader survives rotation of the files under it; what
//! was rotated away before it was read is gone, and the reader goes on with what is there.

use limpet_protocol::call::Stream;

use super::{ContainerId, RuntimePaths};

/// One line of output, or a piece of a line that was too long to be kept whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When the keeper read it, by the node's clock, in milliseconds since 1970.
    pub at_ms: u64,
    /// Where it was written to.
    pub stream: Stream,
    /// The bytes, with the line's end unless the line goes on in the next piece.
    pub data: Vec<u8>,
}

/// Reads a container's log, from its last lines on.
#[derive(Debug)]
pub struct LogReader {}

impl LogReader {
    /// Opens the log of a container; `tail` is how many of the last lines are wanted, none means all.
    ///
    /// # Errors
    /// If there is no such log, or it cannot be read.
    pub fn open(
        _paths: &RuntimePaths,
        _id: &ContainerId,
        _tail: Option<u32>,
    ) -> std::io::Result<Self> {
        Ok(Self {})
    }

    /// The next lines, about `max_bytes` of them; empty when nothing more is there yet. Never waits:
    /// one who follows asks again some time later.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn read(&mut self, _max_bytes: usize) -> std::io::Result<Vec<LogLine>> {
        Ok(Vec::new())
    }
}
