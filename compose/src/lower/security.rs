//! What a container may do.

use std::collections::BTreeMap;

use limpet_protocol::spec::Security;

use super::reader::Reader;
use crate::units;

const CAPABILITIES: [&str; 42] = [
    "ALL",
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];
/// Kernel parameters that belong to a namespace of the container; all others are the node's.
const SYSCTLS: [&str; 6] =
    ["net.", "fs.mqueue.", "kernel.msg", "kernel.sem", "kernel.shm", "kernel.domainname"];

pub(super) fn security(reader: &mut Reader) -> Security {
    let mut found = Security {
        privileged: reader.flag("privileged"),
        cap_add: capabilities(reader, "cap_add"),
        cap_drop: capabilities(reader, "cap_drop"),
        read_only: reader.flag("read_only"),
        sysctls: sysctls(reader),
        host_pid: namespace(reader, "pid", &[]),
        host_ipc: namespace(reader, "ipc", &["private", "shareable", ""]),
        ..Security::default()
    };
    for (index, item) in reader.items("security_opt").iter().enumerate() {
        let text = item.scalar().unwrap_or_default();
        let (name, value) = text.split_once(['=', ':']).unwrap_or((text, ""));
        match (name, value) {
            ("seccomp", "unconfined") => found.seccomp_unconfined = true,
            ("no-new-privileges", "" | "true") => found.allow_new_privileges = false,
            ("no-new-privileges", "false") => found.allow_new_privileges = true,
            _ => reader.at(&format!("security_opt[{index}]")).refuse(
                item,
                format!("Limpet cannot honour {text:?}"),
                "known are `seccomp=unconfined` and `no-new-privileges[:true|false]`",
            ),
        }
    }
    found
}

fn capabilities(reader: &mut Reader, key: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (index, item) in reader.items(key).iter().enumerate() {
        let upper = item.scalar().unwrap_or_default().to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if CAPABILITIES.contains(&name) {
            found.push(name.to_owned());
            continue;
        }
        let near = units::nearest(name, CAPABILITIES.into_iter());
        let advice = near.map_or_else(
            || "see capabilities(7) for their names".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        let message = format!("there is no capability {}", item.kind());
        reader.at(&format!("{key}[{index}]")).refuse(item, message, &advice);
    }
    found
}

fn sysctls(reader: &mut Reader) -> BTreeMap<String, String> {
    let found = reader.pairs("sysctls");
    for name in found.keys() {
        if !SYSCTLS.iter().any(|prefix| name.starts_with(prefix)) {
            let node = reader.get("sysctls").and_then(|all| all.get(name)).unwrap_or(reader.node);
            reader.at("sysctls").refuse(
                node,
                format!("{name:?} belongs to the whole node, not to a container"),
                "set it on the node",
            );
        }
    }
    found
}

fn namespace(reader: &mut Reader, key: &str, own: &[&str]) -> bool {
    let Some(node) = reader.get(key) else { return false };
    match node.scalar() {
        Some("host") => true,
        Some(value) if own.contains(&value) => false,
        _ => {
            let message = format!("expected `host`, found {}", node.kind());
            let advice = "namespaces of other containers cannot be joined in this version";
            reader.at(key).refuse(node, message, advice);
            false
        }
    }
}
