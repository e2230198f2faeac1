//! The mounts of a container: the system's own, the three files of its names, the service's.

use std::path::Path;

use limpet_protocol::spec::{Mount, MountSource, Spec};
use serde_json::{Value, json};

use crate::keeper::content;
use crate::runtime::RuntimePaths;

/// Docker's default size of `/dev/shm`.
const SHM_BYTES: u64 = 64 * 1024 * 1024;
/// Permission bits of a tmpfs that says nothing else.
const TMPFS_MODE: u32 = 0o1777;

/// All mounts in the order in which they are made. `/sys/fs/cgroup` is not among them: libcontainer
/// would mount it writable on cgroup v1, and a container could lift its own limits.
pub(super) fn mounts(spec: &Spec, id: &str, paths: &RuntimePaths) -> Vec<Value> {
    let bundle = &paths.bundle(id);
    let of_contents = contents(spec, bundle);
    let own = |target: &str| {
        spec.mounts.iter().any(|mount| mount.target == target)
            || of_contents.iter().any(|(own, _)| *own == target)
    };
    let mut all: Vec<Value> = system_mounts(spec);
    for name in ["resolv.conf", "hosts", "hostname"] {
        // Read-only: a container that wrote here would fill the node's memory.
        all.push(bind(&bundle.join(name).to_string_lossy(), &format!("/etc/{name}"), true));
    }
    all.retain(|mount| !own(mount["destination"].as_str().unwrap_or_default()));
    let mut volumes = 0;
    let of_service = spec.mounts.iter().map(|mount| {
        let index = volumes;
        volumes += usize::from(matches!(mount.source, MountSource::Volume { .. }));
        (mount.target.as_str(), service_mount(mount, index, id, paths))
    });
    let mut services: Vec<(&str, Value)> = of_service.chain(of_contents.clone()).collect();
    // What is inside another mount comes after it.
    services.sort_by_key(|(target, _)| target.matches('/').count());
    all.extend(services.into_iter().map(|(_, mount)| mount));
    all
}

/// Configs and secrets, in the order of the keeper's files. A config may be a program; what a secret
/// holds is never executed.
fn contents<'a>(spec: &'a Spec, bundle: &Path) -> Vec<(&'a str, Value)> {
    let configs = spec.configs.iter().map(|mount| (mount, "exec"));
    let secrets = spec.secrets.iter().map(|mount| (mount, "noexec"));
    let all = configs.chain(secrets).enumerate();
    all.map(|(index, (mount, exec))| {
        let source = content::file(bundle, index);
        let options = ["bind", "rprivate", "ro", "nosuid", "nodev", exec];
        let value = json!({
            "destination": mount.target, "type": "bind", "source": source, "options": options,
        });
        (mount.target.as_str(), value)
    })
    .collect()
}

fn system_mounts(spec: &Spec) -> Vec<Value> {
    let sys = if spec.security.privileged { "rw" } else { "ro" };
    let mut all = vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", sys]),
    ];
    if spec.security.host_ipc {
        all.push(bind("/dev/shm", "/dev/shm", false));
    } else {
        let size = format!("size={}", spec.resources.shm_size_bytes.unwrap_or(SHM_BYTES));
        let shm = ["nosuid", "noexec", "nodev", "mode=1777", &size];
        all.push(mount("/dev/shm", "tmpfs", &shm));
    }
    // The queues of whichever namespace the container is in.
    all.push(mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]));
    all
}

fn mount(target: &str, kind: &str, options: &[&str]) -> Value {
    json!({"destination": target, "type": kind, "source": kind, "options": options})
}

fn bind(source: &str, target: &str, read_only: bool) -> Value {
    let access = if read_only { "ro" } else { "rw" };
    let options = ["rbind", "rprivate", access];
    json!({"destination": target, "type": "bind", "source": source, "options": options})
}

/// A volume is the `index`th of the plan's.
fn service_mount(mount: &Mount, index: usize, id: &str, paths: &RuntimePaths) -> Value {
    match &mount.source {
        MountSource::Bind { path, .. } => bind(path, &mount.target, mount.read_only),
        MountSource::Volume { name, subpath, .. } => {
            let place = match subpath {
                Some(_) => paths.subpath(id, index),
                None => paths.volumes().join(name),
            };
            bind(&place.to_string_lossy(), &mount.target, mount.read_only)
        }
        MountSource::Tmpfs { size_bytes, mode } => {
            let mut options = vec!["nosuid".to_owned(), "nodev".to_owned(), "noexec".to_owned()];
            options.push(if mount.read_only { "ro" } else { "rw" }.to_owned());
            options.push(format!("mode={:o}", mode.unwrap_or(TMPFS_MODE)));
            options.extend(size_bytes.map(|bytes| format!("size={bytes}")));
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            self::mount(&mount.target, "tmpfs", &options)
        }
    }
}
