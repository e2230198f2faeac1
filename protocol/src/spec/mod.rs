//! The spec: the immutable content of a service, as a node needs it to run one instance.
//!
//! A spec holds everything that shapes a container and nothing that says how many there are or
//! where (see [`crate::application`]). Its identity is the SHA-256 of its encoded bytes, so a node
//! that has the bytes can check them, and any change of a spec is a new spec.
//!
//! Field meanings follow the Compose Specification (compose-spec.io, "services") unless said
//! otherwise; what the runtime makes of them follows the OCI Runtime Specification.

mod health;
mod hooks;
mod mounts;
mod network;
mod schedule;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::id::{ApplicationName, ServiceName, SpecHash};

pub use health::{HealthCheck, HealthTest, Probe, ProbeAction, Probes};
pub use hooks::{Hook, Hooks};
pub use mounts::{ContentMount, Device, Mount, MountSource, is_subpath};
pub use network::{Attachment, Bandwidth, EndpointMode, Network, NetworkMode, PublishedPort};
pub use schedule::{MissedRuns, Overlap, Schedule};

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What a node needs to run one instance of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The application that the service belongs to.
    pub application: ApplicationName,
    /// The service.
    pub service: ServiceName,
    /// Which image, and how it is fetched.
    pub image: ImageSource,
    /// What is run in it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub process: Process,
    /// How much it may use.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// What it may do.
    #[serde(default, skip_serializing_if = "is_default")]
    pub security: Security,
    /// Which file systems and devices it sees besides its image.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mounts: Vec<Mount>,
    /// Host devices given to it, as `host path : container path : permissions`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub devices: Vec<Device>,
    /// Its network.
    #[serde(default, skip_serializing_if = "is_default")]
    pub network: Network,
    /// What happens when it ends.
    #[serde(default, skip_serializing_if = "is_default")]
    pub restart: RestartPolicy,
    /// How it is stopped.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stop: StopPolicy,
    /// How much of its output is kept.
    #[serde(default, skip_serializing_if = "is_default")]
    pub log: LogPolicy,
    /// Services of the same application that come before it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub depends_on: Vec<Dependency>,
    /// Labels of the container (`labels`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the container, for whoever reads its OCI configuration (`annotations`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub annotations: BTreeMap<String, String>,
    /// How its health is found out (`healthcheck`); none takes the image's `HEALTHCHECK`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthCheck>,
    /// Probes that Compose has no word for (`x-probe`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub probes: Probes,
    /// Commands in its container after its start and before its stop (`post_start`, `pre_stop`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub hooks: Hooks,
    /// Files of content that everybody may read (`configs`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub configs: Vec<ContentMount>,
    /// Files of content that nobody else may read (`secrets`): only ever in memory-backed mounts.
    #[serde(default, skip_serializing_if = "is_default")]
    pub secrets: Vec<ContentMount>,
    /// When runs of a job begin (`x-schedule`); none is at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// Ports that the service publishes (`ports`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub ports: Vec<PublishedPort>,
    /// How often people asked for a restart of it (`limpet restart`): another number is another
    /// spec, so that a restart keeps the rules of an update.
    #[serde(default, skip_serializing_if = "is_default")]
    pub restarts: u32,
    /// The specs of services that it is restarted with (`depends_on.*.restart`), written by the
    /// controller.
    #[serde(default, skip_serializing_if = "is_default")]
    pub follows: BTreeMap<ServiceName, SpecHash>,
}

impl Spec {
    /// A service that says no more than its image.
    #[must_use]
    pub fn new(application: ApplicationName, service: ServiceName, image: ImageSource) -> Self {
        Self {
            application,
            service,
            image,
            process: Process::default(),
            resources: Resources::default(),
            security: Security::default(),
            mounts: Vec::new(),
            devices: Vec::new(),
            network: Network::default(),
            restart: RestartPolicy::default(),
            stop: StopPolicy::default(),
            log: LogPolicy::default(),
            depends_on: Vec::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            healthcheck: None,
            probes: Probes::default(),
            hooks: Hooks::default(),
            configs: Vec::new(),
            secrets: Vec::new(),
            schedule: None,
            ports: Vec::new(),
            restarts: 0,
            follows: BTreeMap::new(),
        }
    }
}

impl ImageSource {
    /// An image by its reference alone.
    #[must_use]
    pub fn new(reference: impl Into<String>) -> Self {
        Self {
            reference: reference.into(),
            digest: None,
            from_controller: false,
            platform: None,
            pull: PullPolicy::default(),
        }
    }
}

/// Which image, and when it is fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSource {
    /// The reference as written: `busybox`, `registry.example:5000/a/b:1`, `name@sha256:...`.
    pub reference: String,
    /// The digest of the image index or manifest that the controller resolved the reference to,
    /// `sha256:<hex>`. With it every replica runs the same bytes, and no registry is asked when
    /// the node has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Whether the controller's own image store has it; nodes then fetch it there.
    #[serde(default, skip_serializing_if = "is_default")]
    pub from_controller: bool,
    /// `os/arch[/variant]` where the file asks for one (`platform`); otherwise the node's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// When the registry is asked (`pull_policy`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub pull: PullPolicy,
}

/// When a registry is asked for an image (`pull_policy`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    /// Only when the node does not have it. The default.
    #[default]
    Missing,
    /// At every creation of an instance; what is there already is not fetched again.
    Always,
    /// Never: an image that is not there is an error.
    Never,
}

/// What is run in the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Replaces the image's entrypoint; an empty list clears it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command; an empty list clears it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Added to the image's environment. A key with no value (`KEY` alone) that had none on the
    /// machine of `limpet apply` is left out there.
    #[serde(skip_serializing_if = "is_default")]
    pub environment: BTreeMap<String, String>,
    /// Replaces the image's working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// `user[:group]`, names or numbers; replaces the image's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Further groups, names or numbers.
    #[serde(skip_serializing_if = "is_default")]
    pub group_add: Vec<String>,
    /// Host name; by default the instance's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// NIS domain name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    /// Run a small init as PID 1 that forwards signals and reaps.
    #[serde(skip_serializing_if = "is_default")]
    pub init: bool,
    /// Give it a terminal.
    #[serde(skip_serializing_if = "is_default")]
    pub tty: bool,
    /// Keep its standard input open.
    #[serde(skip_serializing_if = "is_default")]
    pub stdin_open: bool,
    /// `oom_score_adj` of the process, 0..=1000 (a container is never safer than the agent).
    #[serde(skip_serializing_if = "is_default")]
    pub oom_score_adj: i32,
    /// Resource limits of the process (`ulimits`), name → (soft, hard); -1 is unlimited.
    #[serde(skip_serializing_if = "is_default")]
    pub ulimits: BTreeMap<String, Ulimit>,
}

/// One resource limit of a process (setrlimit(2)); -1 is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// The limit in force.
    pub soft: i64,
    /// How far the process may raise it.
    pub hard: i64,
}

/// How much an instance may use, and how much is kept free for it when it is placed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Hard limit of memory, in bytes (`deploy.resources.limits.memory`, `mem_limit`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<u64>,
    /// Memory reserved at placement, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_reservation_bytes: Option<u64>,
    /// Hard limit of CPU time, in thousandths of one CPU (`deploy.resources.limits.cpus: "0.5"` is 500).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_limit_millis: Option<u32>,
    /// CPU reserved at placement, in thousandths of one CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_reservation_millis: Option<u32>,
    /// Relative weight of CPU time (`cpu_shares`; 1024 is the norm).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_shares: Option<u64>,
    /// The CPUs it may run on (`cpuset`), as the kernel writes them: `0-2,4`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset: Option<String>,
    /// Most processes and threads (`deploy.resources.limits.pids`, `pids_limit`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_limit: Option<u32>,
    /// Size of `/dev/shm`, in bytes (`shm_size`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shm_size_bytes: Option<u64>,
    /// Hard limit of memory and swap together, in bytes (`memswap_limit`); none is twice the limit of
    /// memory, -1 is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_and_swap_bytes: Option<i64>,
    /// How readily the kernel swaps its memory out, 0..=100 (`mem_swappiness`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_swappiness: Option<u8>,
}

/// What a container may do. The default is Docker's: its capability set, its masked paths, its
/// system call filter, and no new privileges.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    /// Everything: all capabilities, all devices, no filter.
    #[serde(skip_serializing_if = "is_default")]
    pub privileged: bool,
    /// Capabilities added to the default set, without `CAP_`; `ALL` is all.
    #[serde(skip_serializing_if = "is_default")]
    pub cap_add: Vec<String>,
    /// Capabilities taken from the default set, without `CAP_`; `ALL` is all.
    #[serde(skip_serializing_if = "is_default")]
    pub cap_drop: Vec<String>,
    /// The root file system is read-only.
    #[serde(skip_serializing_if = "is_default")]
    pub read_only: bool,
    /// `security_opt: seccomp=unconfined`: no system call filter.
    #[serde(skip_serializing_if = "is_default")]
    pub seccomp_unconfined: bool,
    /// `security_opt: no-new-privileges:false`: setuid programs gain their owner's rights.
    #[serde(skip_serializing_if = "is_default")]
    pub allow_new_privileges: bool,
    /// Kernel parameters of the container's own namespaces (`sysctls`).
    #[serde(skip_serializing_if = "is_default")]
    pub sysctls: BTreeMap<String, String>,
    /// `pid: host`.
    #[serde(skip_serializing_if = "is_default")]
    pub host_pid: bool,
    /// `ipc: host`.
    #[serde(skip_serializing_if = "is_default")]
    pub host_ipc: bool,
}

/// What happens when an instance ends (`restart`, `deploy.restart_policy`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// When it is started again.
    pub condition: RestartCondition,
    /// Shortest time between its end and the next start, in milliseconds. Back-off comes on top.
    pub delay_ms: u64,
    /// How many restarts within the window; none is without end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// How far back restarts count, and how long it has to run until one has succeeded, in
    /// milliseconds; 0 counts all of this spec (`window`).
    pub window_ms: u64,
}

impl Default for RestartPolicy {
    /// Started again whatever it ended with, at once: the first restart has no delay, a crash loop
    /// is slowed by back-off.
    fn default() -> Self {
        Self { condition: RestartCondition::Any, delay_ms: 0, max_attempts: None, window_ms: 0 }
    }
}

/// When an ended instance is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartCondition {
    /// Never.
    None,
    /// When its exit code was not 0.
    OnFailure,
    /// Always.
    Any,
}

/// How an instance is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopPolicy {
    /// The signal's number as Linux counts on every architecture that Limpet knows (x86, ARM);
    /// none takes the image's, and SIGTERM if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Time until the whole cgroup is killed, in milliseconds (`stop_grace_period`).
    pub grace_period_ms: u64,
}

impl Default for StopPolicy {
    fn default() -> Self {
        Self { signal: None, grace_period_ms: 10_000 }
    }
}

/// How much output of an instance is kept on its node, in memory-backed files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPolicy {
    /// Most bytes of one file (`logging.options.max-size`).
    pub max_file_bytes: u64,
    /// How many files, the one written included (`logging.options.max-file`).
    pub max_files: u32,
}

impl Default for LogPolicy {
    fn default() -> Self {
        Self { max_file_bytes: 256 * 1024, max_files: 2 }
    }
}

/// A service of the same application that comes first (`depends_on`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// Which.
    pub service: ServiceName,
    /// How far it must have come.
    pub condition: DependencyCondition,
    /// Restart the dependant when it was updated.
    #[serde(default, skip_serializing_if = "is_default")]
    pub restart: bool,
    /// Whether its absence is an error.
    pub required: bool,
}

/// How far a dependency must have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DependencyCondition {
    /// It runs.
    ServiceStarted,
    /// Its health check passes.
    ServiceHealthy,
    /// It ended with exit code 0.
    ServiceCompletedSuccessfully,
}
