//! Facts of the node that shape a container's specification: what may be given, and what is there.
//!
//! The keeper reads them once at its start, about itself: what it has not, no container can have.

use std::collections::BTreeMap;

use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

use super::cgroup::Hierarchies;

/// The version of this program, agent and keeper alike.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Facts about the keeper and its node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeFacts {
    /// The version of the keeper's program.
    pub version: String,
    /// The capabilities that can be had, a bit each.
    pub bounding_capabilities: u64,
    /// The hard limit of each resource (`RLIMIT_…` without the prefix, lower case); none is unlimited.
    pub hard_limits: BTreeMap<String, Option<u64>>,
    /// The keeper's own `oom_score_adj`: no container can have a lower one.
    pub oom_score_adj: i32,
    /// The cgroup controllers that are there.
    pub controllers: Vec<String>,
    /// Whether swap is counted by the memory controller.
    pub counts_swap: bool,
    /// Whether this build can filter system calls.
    pub seccomp: bool,
    /// How many processors are online.
    pub processors: u32,
}

impl NodeFacts {
    /// Whether a cgroup controller is there.
    #[must_use]
    pub fn has_controller(&self, name: &str) -> bool {
        self.controllers.iter().any(|controller| controller == name)
    }

    /// The facts as this process finds them, before a keeper has told its own.
    #[must_use]
    pub fn found_here() -> Self {
        Hierarchies::find().map(|hierarchies| Self::read(&hierarchies)).unwrap_or_default()
    }

    /// What this node lacks, for people: a sentence each, with what to do about it.
    #[must_use]
    pub fn conditions(&self) -> Vec<String> {
        let mut conditions = Vec::new();
        for (controller, condition) in [
            ("memory", NO_MEMORY),
            ("cpu", "no cpu cgroup: services with a CPU limit or CPU shares do not start here"),
            ("pids", "no pids cgroup: nothing bounds how many processes a container makes"),
        ] {
            if !self.has_controller(controller) {
                conditions.push(condition.to_owned());
            }
        }
        if !self.seccomp {
            let missing = "no system call filter: this agent was built without seccomp";
            conditions.push(missing.to_owned());
        }
        conditions
    }

    /// Reads them.
    pub(super) fn read(hierarchies: &Hierarchies) -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
        let adjustment = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            version: VERSION.to_owned(),
            bounding_capabilities: bounding
                .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
                .unwrap_or(0),
            hard_limits: LIMITS
                .iter()
                .map(|(name, resource)| ((*name).to_owned(), getrlimit(*resource).maximum))
                .collect(),
            oom_score_adj: adjustment.trim().parse().unwrap_or(0),
            controllers: hierarchies.controllers(),
            counts_swap: hierarchies.counts_swap(),
            seccomp: cfg!(feature = "seccomp"),
            processors: u32::try_from(processors).unwrap_or(1),
        }
    }
}

/// Raspberry Pi OS boots without it.
const NO_MEMORY: &str = "no memory cgroup: services with a memory limit do not start here; on a \
     Raspberry Pi add cgroup_enable=memory to cmdline.txt and reboot";

/// Resource limits by the names that Compose and the OCI specification build on.
const LIMITS: [(&str, Resource); 14] = [
    ("as", Resource::As),
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("locks", Resource::Locks),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("rtprio", Resource::Rtprio),
    ("sigpending", Resource::Sigpending),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told() {
        let facts = |controllers: &[&str], seccomp| NodeFacts {
            controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
            seccomp,
            ..NodeFacts::default()
        };
        assert_eq!(facts(&["cpu", "memory", "pids"], true).conditions(), [""; 0]);
        let lacks = |controllers: &[&str], seccomp| {
            let told = facts(controllers, seccomp).conditions();
            let fits = limpet_protocol::limits::MAX_REASON_BYTES;
            assert!(told.iter().all(|condition| condition.len() <= fits));
            told.iter().map(|it| it.split(':').next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(lacks(&["cpu", "pids"], true), ["no memory cgroup"]);
        assert_eq!(lacks(&["memory"], true), ["no cpu cgroup", "no pids cgroup"]);
        assert_eq!(lacks(&["cpu", "memory", "pids"], false), ["no system call filter"]);
        assert_eq!(lacks(&[], false).len(), 4);
    }

    #[test]
    fn this_build_says_whether_it_filters() {
        let told = NodeFacts::found_here().conditions();
        let unfiltered = told.iter().any(|condition| condition.contains("without seccomp"));
        assert_eq!(unfiltered, !cfg!(feature = "seccomp"), "{told:?}");
    }
}
