//! Calls: the only commands on the wire. A person looks into a node through one.
//!
//! The caller publishes [`CallIn`] on the node's `call/{session}/in`, the agent answers with
//! [`CallOut`] on `call/{session}/out`. Flow control is by credit: the agent sends a chunk only for
//! a credit that it was given, so a slow reader costs the node nothing but one bounded buffer.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::byte_string;
use crate::id::InstanceId;

/// From the caller to the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallIn {
    /// Send me an instance's output.
    Logs {
        /// Whose.
        instance: InstanceId,
        /// Only the last so many lines.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tail: Option<u32>,
        /// Go on as more is written.
        #[serde(default)]
        follow: bool,
        /// How many chunks may be sent before the first [`CallIn::Credit`].
        credit: u16,
    },
    /// So many more chunks may be sent.
    Credit {
        /// How many.
        chunks: u16,
    },
    /// The caller is gone.
    Cancel,
}

/// From the agent to the caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallOut {
    /// A piece of output, whole lines where possible.
    Chunk {
        /// Counts from 0, so that the caller sees a gap.
        sequence: u64,
        /// Which of the container's outputs.
        stream: Stream,
        /// At most [`crate::limits::MAX_CALL_CHUNK_BYTES`].
        #[serde(with = "byte_string")]
        data: Vec<u8>,
    },
    /// Nothing more will come.
    End {
        /// Why, if it is an error.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
}

/// Which output of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}
