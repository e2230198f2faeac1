//! Health and readiness: what is asked of an instance, and how often.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::is_default;

/// How the health of an instance is found out: a command in its container (`healthcheck`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// What is run.
    pub test: HealthTest,
    /// Between the end of one check and the next; none is the image's, or 30 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u64>,
    /// How long one check may take; none is the image's, or 30 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Failures in a row that make it unhealthy; none is the image's, or 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// After the start failures do not count for so long; none is the image's, or 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_period_ms: Option<u64>,
    /// Between checks within the start period; none is the image's, or 5 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_interval_ms: Option<u64>,
}

/// What a health check runs (`healthcheck.test`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthTest {
    /// What the image's `HEALTHCHECK` says, with other times.
    Image,
    /// Nothing (`NONE`, `disable: true`).
    None,
    /// A program and its arguments (`CMD`).
    Command(Vec<String>),
    /// A line for `/bin/sh -c` (`CMD-SHELL`).
    Shell(String),
}

/// The probes of a service (`x-probe`), named as in Kubernetes: until `startup` has succeeded the
/// others wait; a failing `live` has the instance replaced, a failing `ready` keeps traffic away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Probes {
    /// Has it come up?
    #[serde(skip_serializing_if = "Option::is_none")]
    pub startup: Option<Probe>,
    /// Is it alive?
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<Probe>,
    /// May it get traffic?
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<Probe>,
}

/// One probe. Defaults are those of Kubernetes' `Probe` unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// What is done.
    pub action: ProbeAction,
    /// Wait after the start until the first.
    #[serde(default)]
    pub initial_delay_ms: u64,
    /// From one to the next.
    pub interval_ms: u64,
    /// How long one may take.
    pub timeout_ms: u64,
    /// Successes in a row that turn it for the better.
    pub success_threshold: u32,
    /// Failures in a row that turn it for the worse.
    pub failure_threshold: u32,
}

/// What a probe does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeAction {
    /// `GET` over HTTP/1.1 in the container's network: a status of 200 to 399 is success.
    Http {
        /// Port.
        port: u16,
        /// Path and query, beginning with `/`.
        path: String,
        /// Further headers, name → value.
        #[serde(default, skip_serializing_if = "is_default")]
        headers: BTreeMap<String, String>,
    },
    /// A TCP connection in the container's network.
    Tcp {
        /// Port.
        port: u16,
    },
    /// A program in the container: exit code 0 is success.
    Command(Vec<String>),
}
