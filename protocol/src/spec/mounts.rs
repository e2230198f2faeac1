//! What a container sees besides its image.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use super::is_default;
use crate::id::ContentId;

/// A file system that the container sees besides its image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where, an absolute path in the container.
    pub target: String,
    /// What.
    pub source: MountSource,
    /// Whether it may not be written.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountSource {
    /// A path of the node.
    Bind {
        /// The absolute path on the node.
        path: String,
        /// Make it as a folder when it is not there (the short syntax does so).
        #[serde(default)]
        create: bool,
    },
    /// A named volume of the application, in the agent's volume root.
    Volume {
        /// The volume's name, unique on the node.
        name: String,
        /// Begin empty: the image's content at the target is not taken over (`volume.nocopy`).
        #[serde(default, skip_serializing_if = "is_default")]
        no_copy: bool,
        /// A folder within the volume, which is seen instead of all of it (`volume.subpath`); it is
        /// made when it is not there. See [`is_subpath`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subpath: Option<String>,
    },
    /// Memory.
    Tmpfs {
        /// Most bytes, if limited.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size_bytes: Option<u64>,
        /// Permission bits, by default 0o1777.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<u32>,
    },
}

/// Whether a text is a path that stays within a folder whatever it is: plain names and nothing else.
#[must_use]
pub fn is_subpath(text: &str) -> bool {
    text.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// A device of the node given to the container (`devices`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// The path on the node.
    pub host_path: String,
    /// The path in the container.
    pub container_path: String,
    /// Which of `r`, `w` and `m`.
    pub permissions: String,
}

/// A file in the container with content that the controller keeps (`configs`, `secrets`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentMount {
    /// What people call it; for messages.
    pub name: String,
    /// Which content.
    pub content: ContentId,
    /// Where, an absolute path in the container.
    pub target: String,
    /// Whose it is: user id.
    #[serde(default, skip_serializing_if = "is_default")]
    pub uid: u32,
    /// Whose it is: group id.
    #[serde(default, skip_serializing_if = "is_default")]
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}
