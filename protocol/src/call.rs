//! Calls: the only commands on the wire. A person looks into a node through one.
//!
//! The caller publishes [`CallIn`] on the node's `call/{session}/in`, the agent answers with
//! [`CallOut`] on `call/{session}/out`. Flow control is by credit: the agent sends a chunk only for
//! a credit that it was given, so a slow reader costs the node nothing but one bounded buffer. Input
//! is paid in the same way by the agent's [`CallOut::Credit`].

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::byte_string;
use crate::id::InstanceId;
use crate::load::{NodeLoad, Pressure};
use crate::scale::ScaleReport;
use crate::spec::ImageSource;

/// From the caller to the agent. An agent answers a kind that it does not know with an end that
/// says so.
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
        /// Only what was written from then on, in milliseconds since 1970 by the node's clock.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since_ms: Option<u64>,
        /// Begin each line with its time in milliseconds since 1970 and a space.
        #[serde(default, skip_serializing_if = "is_false")]
        timestamps: bool,
    },
    /// Run a command in an instance.
    Exec(ExecCall),
    /// Send me a file or folder of an instance as a tar stream.
    Read {
        /// Whose.
        instance: InstanceId,
        /// An absolute path in it.
        path: String,
        /// As for logs.
        credit: u16,
    },
    /// Take the tar stream that follows as [`CallIn::Input`] into an instance.
    Write {
        /// Whose.
        instance: InstanceId,
        /// An absolute path in it.
        path: String,
        /// Whether the path is the folder that takes the entries as they are, made where it is not
        /// there. Otherwise an existing folder takes them and any other path is the new name of the
        /// stream's one topmost entry.
        #[serde(default, skip_serializing_if = "is_false")]
        contents: bool,
    },
    /// Tell me what the instances of this node use.
    Load,
    /// Tell me what you decided about the numbers of instances, with figures of now.
    Scales,
    /// Tell me what the node itself has used and has left.
    Node,
    /// Tell me how many bytes you would fetch for these images.
    Missing {
        /// At most [`crate::limits::MAX_IMAGES_ASKED`]; more are left out.
        images: Vec<ImageSource>,
    },
    /// A piece of input, for a credit of the agent's.
    Input {
        /// Counts from 0, so that the agent sees a gap.
        sequence: u64,
        /// At most [`crate::limits::MAX_CALL_CHUNK_BYTES`].
        #[serde(with = "byte_string")]
        data: Vec<u8>,
    },
    /// There is no more input.
    InputEnd,
    /// The caller's terminal has another size.
    Resize(TerminalSize),
    /// Send this signal to the command.
    Signal {
        /// Its number on Linux.
        number: i32,
    },
    /// So many more chunks may be sent.
    Credit {
        /// How many.
        chunks: u16,
    },
    /// The caller is gone.
    Cancel,
}

/// A command to be run in an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecCall {
    /// In which.
    pub instance: InstanceId,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Values on top of the container's environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<(String, String)>,
    /// An absolute path; none is the container's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// `user[:group]`; none is who the container runs as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The size of the terminal that it gets; none gets none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<TerminalSize>,
    /// Whether there will be input.
    #[serde(default, skip_serializing_if = "is_false")]
    pub input: bool,
    /// How many chunks may be sent before the first [`CallIn::Credit`].
    pub credit: u16,
}

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
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
    /// So many more pieces of input may be sent. The first answer to whoever may send any, and to
    /// every [`CallIn::Exec`]: it says that the call is understood.
    Credit {
        /// How many.
        chunks: u16,
    },
    /// What the instances of the node use.
    Load(Vec<InstanceLoad>),
    /// What was decided about services that follow their load.
    Scales(Vec<ScaleReport>),
    /// What the node has used and has left.
    Node(Box<NodeLoad>),
    /// What would be fetched for each image, in the order of the question.
    Missing(Vec<Lacking>),
    /// Nothing more will come.
    End {
        /// Why, if it is an error.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// The command's exit code: 128 and the signal's number if one ended it, 126 or 127 with an
        /// error if it could not be executed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit_code: Option<i32>,
    },
}

impl CallOut {
    /// The end of a call, for this reason if it is an error.
    #[must_use]
    pub const fn end(error: Option<String>) -> Self {
        Self::End { error, exit_code: None }
    }
}

/// What a node lacks of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lacking {
    /// Bytes that it would fetch; 0 if all of it is there. None if that cannot be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What one instance has used and uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceLoad {
    /// Which.
    pub instance: InstanceId,
    /// When it was read, in milliseconds of a clock of the node that only goes forward.
    pub at_ms: u64,
    /// Processor time since the container began, in microseconds.
    pub cpu_us: u64,
    /// Memory in use, without what the kernel can take back at once.
    pub memory_bytes: u64,
    /// What it may use at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<u64>,
    /// Its processes and threads.
    pub pids: u32,
    /// How many it may have at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids_limit: Option<u32>,
    /// Bytes that came in since its network came to be; none if it has no network of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_bytes: Option<u64>,
    /// Bytes that went out, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_bytes: Option<u64>,
    /// How long it waited for what it needed; none where the kernel does not tell (version 1 of cgroups).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure: Option<Pressure>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_false(value: &bool) -> bool {
    !*value
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
