//! Lifecycle hooks: commands that are run in an instance after its start and before its stop.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::is_default;

/// What is run when (`post_start`, `pre_stop`), one after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    /// Once its container runs. One that fails makes the instance unhealthy.
    #[serde(default, skip_serializing_if = "is_default")]
    pub post_start: Vec<Hook>,
    /// Before its container is told to stop; not when it ends by itself. They have the grace period.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pre_stop: Vec<Hook>,
}

/// A command in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// `user[:group]`; none is who the container runs as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// An absolute path; none is the container's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Values on top of the container's environment.
    #[serde(default, skip_serializing_if = "is_default")]
    pub environment: BTreeMap<String, String>,
}

impl Hook {
    /// A command that is run as the container's own process is.
    #[must_use]
    pub const fn plain(command: Vec<String>) -> Self {
        Self { command, user: None, working_dir: None, environment: BTreeMap::new() }
    }
}
