//! Limits of a container: cgroup resources, resource limits of its process, capabilities.

use limpet_protocol::spec::{Resources, Security, Spec, Ulimit};
use serde_json::{Value, json};

use super::Unsupported;
use crate::keeper::facts::NodeFacts;

/// Processes of a container that says nothing: enough for any service, not enough for a fork bomb.
const DEFAULT_PIDS: u32 = 2048;
/// Fewer cannot even be started: libcontainer's own helpers count.
const MIN_PIDS: u32 = 16;
/// Less does not hold the start of a container's first process.
const MIN_MEMORY_BYTES: u64 = 6 * 1024 * 1024;
/// The kernel's period of CPU time, and its smallest share of one, in microseconds.
const CPU_PERIOD_US: u64 = 100_000;
const MIN_CPU_QUOTA_US: u64 = 1_000;
/// Open files of a process that says nothing.
const DEFAULT_NOFILE: Ulimit = Ulimit { soft: 1024, hard: 524_288 };

/// The capabilities in the order of their numbers.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Docker's default set.
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

fn plain(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    upper.strip_prefix("CAP_").map_or_else(|| upper.clone(), str::to_owned)
}

/// The capabilities of a container, as `CAP_…`: what it asks for and what the keeper itself has.
pub(super) fn capabilities(
    security: &Security,
    facts: &NodeFacts,
) -> Result<Vec<String>, Unsupported> {
    let added: Vec<String> = security.cap_add.iter().map(|name| plain(name)).collect();
    let dropped: Vec<String> = security.cap_drop.iter().map(|name| plain(name)).collect();
    let known = |name: &&String| name.as_str() != "ALL" && !CAPABILITIES.contains(&name.as_str());
    if let Some(name) = added.iter().chain(&dropped).find(known) {
        return Err(Unsupported(format!(
            "{name} is no capability of Linux; `man 7 capabilities` lists them"
        )));
    }
    let all = |list: &[String]| list.iter().any(|name| name == "ALL");
    let lists = |list: &[String], name: &str| list.iter().any(|entry| entry == name);
    // Without the devices controller (cgroup v2) nothing else keeps a made device node closed.
    let by_default = |name: &str| {
        DEFAULT_CAPABILITIES.contains(&name) && (name != "MKNOD" || facts.has_controller("devices"))
    };
    let wanted = |name: &str| {
        security.privileged
            || lists(&added, name)
            || (all(&added) && !lists(&dropped, name))
            || (by_default(name) && !all(&dropped) && !lists(&dropped, name))
    };
    let had = |number: usize| facts.bounding_capabilities >> number & 1 == 1;
    let chosen =
        CAPABILITIES.iter().enumerate().filter(|(number, name)| had(*number) && wanted(name));
    Ok(chosen.map(|(_, name)| format!("CAP_{name}")).collect())
}

/// The resource limits of the process, none above the keeper's own.
pub(super) fn rlimits(spec: &Spec, facts: &NodeFacts) -> Result<Vec<Value>, Unsupported> {
    let mut wanted = spec.process.ulimits.clone();
    wanted.entry("nofile".to_owned()).or_insert(DEFAULT_NOFILE);
    let mut all = Vec::new();
    for (name, limit) in &wanted {
        let Some(own) = facts.hard_limits.get(name) else {
            let known: Vec<&str> = facts.hard_limits.keys().map(String::as_str).collect();
            return Err(Unsupported(format!(
                "ulimit {name:?} is not known; the names are {}",
                known.join(", ")
            )));
        };
        let bounded = |value: i64| {
            let value = u64::try_from(value).unwrap_or(u64::MAX);
            own.map_or(value, |own| value.min(own))
        };
        let hard = bounded(limit.hard);
        let soft = bounded(limit.soft).min(hard);
        let kind = format!("RLIMIT_{}", name.to_ascii_uppercase());
        all.push(json!({"type": kind, "soft": soft, "hard": hard}));
    }
    Ok(all)
}

/// The cgroup's limits, without its devices.
pub(super) fn resources(
    resources: &Resources,
    facts: &NodeFacts,
) -> Result<serde_json::Map<String, Value>, Unsupported> {
    let mut all = serde_json::Map::new();
    if facts.has_controller("pids") {
        let limit = resources.pids_limit.unwrap_or(DEFAULT_PIDS).max(MIN_PIDS);
        all.insert("pids".to_owned(), json!({"limit": limit}));
    }
    if let Some(bytes) = resources.memory_limit_bytes {
        all.insert("memory".to_owned(), memory(bytes, resources, facts)?);
    }
    if let Some(swappiness) = resources.memory_swappiness {
        need(facts, "memory", "`mem_swappiness`")?;
        let memory = all.entry("memory").or_insert_with(|| json!({}));
        memory["swappiness"] = json!(swappiness);
    }
    let mut cpu = serde_json::Map::new();
    if let Some(millis) = resources.cpu_limit_millis {
        need(facts, "cpu", "a CPU limit")?;
        let quota = (u64::from(millis) * CPU_PERIOD_US / 1000).max(MIN_CPU_QUOTA_US);
        cpu.insert("quota".to_owned(), json!(quota));
        cpu.insert("period".to_owned(), json!(CPU_PERIOD_US));
    }
    if let Some(shares) = resources.cpu_shares {
        need(facts, "cpu", "`cpu_shares`")?;
        cpu.insert("shares".to_owned(), json!(shares));
    }
    if let Some(set) = &resources.cpuset {
        need(facts, "cpuset", "`cpuset`")?;
        cpu.insert("cpus".to_owned(), json!(set));
    }
    if !cpu.is_empty() {
        all.insert("cpu".to_owned(), Value::Object(cpu));
    }
    Ok(all)
}

fn memory(bytes: u64, resources: &Resources, facts: &NodeFacts) -> Result<Value, Unsupported> {
    if bytes < MIN_MEMORY_BYTES {
        return Err(Unsupported(format!(
            "a memory limit of {bytes} bytes does not hold the start of a process; give it at \
             least {MIN_MEMORY_BYTES} (6m)"
        )));
    }
    need(facts, "memory", "a memory limit")?;
    let mut memory = json!({"limit": bytes});
    if let Some(reserved) = resources.memory_reservation_bytes.filter(|reserved| *reserved < bytes)
    {
        memory["reservation"] = json!(reserved);
    }
    if facts.counts_swap {
        // As Docker: as much swap as memory.
        let default = i64::try_from(bytes.saturating_mul(2)).unwrap_or(i64::MAX);
        memory["swap"] = json!(resources.memory_and_swap_bytes.unwrap_or(default));
    } else if resources.memory_and_swap_bytes.is_some_and(|limit| limit >= 0) {
        return Err(Unsupported(
            "`memswap_limit` needs a kernel that counts swap, which this node's does not (boot it with \
             `swapaccount=1`)"
                .to_owned(),
        ));
    }
    Ok(memory)
}

fn need(facts: &NodeFacts, controller: &str, what: &str) -> Result<(), Unsupported> {
    if facts.has_controller(controller) {
        return Ok(());
    }
    let advice = if controller == "memory" {
        "; on a Raspberry Pi add `cgroup_enable=memory` to cmdline.txt and reboot"
    } else {
        ""
    };
    Err(Unsupported(format!(
        "{what} needs the cgroup controller {controller:?}, which this node has not{advice}"
    )))
}
