//! The specification of a container, in the words of the OCI runtime specification.
//!
//! In: the service's spec, the image's configuration, facts of the node. Out: a [`Plan`] whose
//! `config` is the specification; what only the image's files and the node's devices can tell the
//! keeper's child fills in. Pure: the same values give the same plan.

mod limits;
mod mounts;
mod network;
mod seccomp;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use limpet_protocol::spec::{ContentMount, MountSource, Spec};
use oci_spec::image::Config;
use serde_json::{Value, json};

use super::{ContainerNetwork, ContainerRequest, RuntimePaths};
use crate::keeper::facts::NodeFacts;
use crate::keeper::plan::{ContentPlan, DevicePlan, Plan, VolumePlan};
use crate::keeper::wire::Blob;
use crate::ledger::content::ContentRef;

/// Where programs are looked for if neither image nor service says it.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Longest host name (sethostname(2)).
const MAX_HOST_NAME_BYTES: usize = 64;

/// What cannot be had on this node, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unsupported(pub(super) String);

/// Plans a container.
pub(super) fn plan(
    request: &ContainerRequest,
    facts: &NodeFacts,
    paths: &RuntimePaths,
) -> Result<Plan, Unsupported> {
    let spec = &*request.spec;
    let image = request.image.config.config().clone().unwrap_or_default();
    let id = request.id.to_string();
    let instance = request.id.instance.to_string();
    let hostname = spec.process.hostname.clone().unwrap_or(instance);
    let hostname = hostname.chars().take(MAX_HOST_NAME_BYTES - 1).collect::<String>();
    let network = request.network.as_ref();
    let config = json!({
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs", "readonly": spec.security.read_only},
        "hostname": hostname,
        "domainname": spec.process.domainname,
        "annotations": spec.annotations,
        "process": process(spec, &image, facts, &hostname)?,
        "mounts": mounts::mounts(spec, &id, paths),
        "linux": linux(spec, facts, &paths.cgroup(&id), network)?,
    });
    let config = serde_json::to_vec(&config).map_err(|error| Unsupported(error.to_string()))?;
    Ok(Plan {
        config: Blob(config),
        layers: request.image.layers.clone(),
        user: spec.process.user.clone().or_else(|| image.user().clone()).unwrap_or_default(),
        groups: spec.process.group_add.clone(),
        make_folders: make_folders(spec),
        volumes: volumes(spec),
        contents: contents(spec),
        devices: devices(spec),
        own_network: network::is_own(spec),
        open_stdin: spec.process.stdin_open,
        init: spec.process.init,
        hosts: network::hosts(spec, &hostname, network)?,
        hostname: format!("{hostname}\n"),
        resolv_conf: network::resolv_conf(spec, network),
        resolv_search: network::search(spec, network),
        resolv_options: spec.network.dns_opt.join(" "),
    })
}

fn process(
    spec: &Spec,
    image: &Config,
    facts: &NodeFacts,
    hostname: &str,
) -> Result<Value, Unsupported> {
    let capabilities = limits::capabilities(&spec.security, facts)?;
    let working_dir = spec.process.working_dir.clone().or_else(|| image.working_dir().clone());
    let working_dir = working_dir.filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned());
    let oom_score_adj = spec.process.oom_score_adj.clamp(facts.oom_score_adj, 1000);
    let mut process = json!({
        "terminal": false,
        "user": {"uid": 0, "gid": 0},
        "args": arguments(spec, image)?,
        "env": environment(spec, image, hostname),
        "cwd": working_dir,
        "capabilities": {
            "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
        },
        "rlimits": limits::rlimits(spec, facts)?,
        "oomScoreAdj": oom_score_adj,
    });
    // Left out, not false: libcontainer asks only whether it is there.
    if !spec.security.allow_new_privileges && !spec.security.privileged {
        process["noNewPrivileges"] = json!(true);
    }
    Ok(process)
}

/// What is run: as Docker has it, an entrypoint of the service voids the image's command.
fn arguments(spec: &Spec, image: &Config) -> Result<Vec<String>, Unsupported> {
    let of_image = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let (mut arguments, command) = match (&spec.process.entrypoint, &spec.process.command) {
        (Some(entrypoint), command) => (entrypoint.clone(), command.clone().unwrap_or_default()),
        (None, Some(command)) => (of_image(image.entrypoint()), command.clone()),
        (None, None) => (of_image(image.entrypoint()), of_image(image.cmd())),
    };
    arguments.extend(command);
    match arguments.first() {
        Some(program) if !program.is_empty() => Ok(arguments),
        _ => Err(Unsupported(
            "neither the image nor the service says what to run; set `command`".to_owned(),
        )),
    }
}

/// The later of two values of one name counts: default, image, service.
fn environment(spec: &Spec, image: &Config, hostname: &str) -> Vec<String> {
    let mut all: Vec<(String, String)> = vec![
        ("PATH".to_owned(), DEFAULT_PATH.to_owned()),
        ("HOSTNAME".to_owned(), hostname.to_owned()),
    ];
    if spec.process.tty {
        all.push(("TERM".to_owned(), "xterm".to_owned()));
    }
    let of_image = image.env().iter().flatten().filter_map(|entry| entry.split_once('='));
    let of_service = spec.process.environment.iter().map(|(k, v)| (k.as_str(), v.as_str()));
    for (name, value) in of_image.chain(of_service) {
        match all.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => value.clone_into(old),
            None => all.push((name.to_owned(), value.to_owned())),
        }
    }
    all.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn linux(
    spec: &Spec,
    facts: &NodeFacts,
    cgroup: &str,
    network: Option<&ContainerNetwork>,
) -> Result<Value, Unsupported> {
    let security = &spec.security;
    let mut resources = limits::resources(&spec.resources, facts)?;
    resources.insert("devices".to_owned(), device_rules(security.privileged));
    let mut linux = json!({
        "cgroupsPath": cgroup,
        "resources": resources,
        "namespaces": namespaces(spec, network),
        "sysctl": sysctls(spec)?,
        "devices": [],
    });
    if security.privileged {
        return Ok(linux);
    }
    linux["maskedPaths"] = json!([
        "/proc/acpi",
        "/proc/asound",
        "/proc/interrupts",
        "/proc/kallsyms",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/sys/devices/virtual/powercap",
        "/sys/firmware",
    ]);
    linux["readonlyPaths"] =
        json!(["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]);
    if !security.seccomp_unconfined && facts.seccomp {
        let capabilities = limits::capabilities(security, facts)?;
        let filter = seccomp::filter(&capabilities, std::env::consts::ARCH);
        linux["seccomp"] = filter.map_err(|error| Unsupported(error.to_string()))?;
    }
    Ok(linux)
}

/// Nothing but what every program may expect; on cgroup v2 the kernel is not asked.
fn device_rules(privileged: bool) -> Value {
    if privileged {
        return json!([{"allow": true, "type": "a", "access": "rwm"}]);
    }
    let mut rules = vec![
        json!({"allow": false, "type": "a", "access": "rwm"}),
        json!({"allow": true, "type": "c", "access": "m"}),
        json!({"allow": true, "type": "b", "access": "m"}),
    ];
    // null, zero, full, random, urandom, tty, ptmx
    for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2)] {
        rules.push(
            json!({"allow": true, "type": "c", "major": major, "minor": minor, "access": "rwm"}),
        );
    }
    rules.push(json!({"allow": true, "type": "c", "major": 136, "access": "rwm"}));
    Value::Array(rules)
}

fn namespaces(spec: &Spec, network: Option<&ContainerNetwork>) -> Vec<Value> {
    let wanted = [
        ("mount", true),
        ("uts", true),
        ("pid", !spec.security.host_pid),
        ("ipc", !spec.security.host_ipc),
    ];
    let own = wanted.iter().filter(|(_, wanted)| *wanted).map(|(kind, _)| json!({"type": kind}));
    own.chain(network::namespace(spec, network)).collect()
}

/// Only those of the container's own namespaces: others would change the node.
fn sysctls(spec: &Spec) -> Result<Value, Unsupported> {
    const OF_IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let own_network = network::is_own(spec);
    for name in spec.security.sysctls.keys() {
        let of_ipc = OF_IPC.contains(&name.as_str()) || name.starts_with("fs.mqueue.");
        let own = (name.starts_with("net.") && own_network) || (of_ipc && !spec.security.host_ipc);
        if !own || name.contains("..") || name.contains('/') {
            return Err(Unsupported(format!(
                "sysctl {name} belongs to the node and not to the container's namespaces; set it \
                 on the node itself"
            )));
        }
    }
    Ok(json!(spec.security.sysctls))
}

fn make_folders(spec: &Spec) -> Vec<PathBuf> {
    let wanted = spec.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Bind { path, create: true } => Some(PathBuf::from(path)),
        _ => None,
    });
    wanted.collect()
}

fn volumes(spec: &Spec) -> Vec<VolumePlan> {
    let wanted = spec.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Volume { name, no_copy, subpath } => Some(VolumePlan {
            name: name.clone(),
            target: mount.target.clone(),
            no_copy: *no_copy,
            subpath: subpath.clone(),
        }),
        _ => None,
    });
    wanted.collect()
}

/// In the order of the mounts' sources: configs first.
fn contents(spec: &Spec) -> Vec<ContentPlan> {
    let plan = |word: &str, content, mount: &ContentMount| ContentPlan {
        content,
        what: format!("{word} {}", mount.name),
        uid: mount.uid,
        gid: mount.gid,
        mode: mount.mode,
    };
    let configs = spec.configs.iter();
    let configs = configs.map(|mount| plan("config", ContentRef::Config(mount.content), mount));
    let secrets = spec.secrets.iter();
    let secrets = secrets.map(|mount| plan("secret", ContentRef::Secret(mount.content), mount));
    configs.chain(secrets).collect()
}

fn devices(spec: &Spec) -> Vec<DevicePlan> {
    let wanted = spec.devices.iter().map(|device| DevicePlan {
        host_path: device.host_path.clone().into(),
        container_path: device.container_path.clone().into(),
        permissions: device.permissions.clone(),
    });
    let all = DevicePlan {
        host_path: Path::new("/dev").into(),
        container_path: Path::new("/dev").into(),
        permissions: "rwm".to_owned(),
    };
    wanted.chain(spec.security.privileged.then_some(all)).collect()
}
