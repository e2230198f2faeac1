//! The default system call filter, as data: Docker's default profile in the form of `seccomp.json`.
//!
//! In: the capabilities that the container has. Out: the `linux.seccomp` of its specification. What
//! is not allowed gets EPERM.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

const PROFILE: &str = include_str!("seccomp.json");
const EPERM: u32 = 1;

#[derive(Deserialize)]
struct Profile {
    /// Allowed to everybody.
    allow: Vec<String>,
    /// Allowed to those who have the capability.
    with_capability: Vec<WithCapability>,
    /// For those who have it not.
    without_capability: Vec<WithoutCapability>,
    /// For everybody, depending on arguments.
    with_arguments: Vec<Value>,
    /// The system call tables of each processor, its own first.
    architectures: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct WithCapability {
    capability: String,
    names: Vec<String>,
}

#[derive(Deserialize)]
struct WithoutCapability {
    capability: String,
    rule: Value,
}

/// The filter for a container with these capabilities (`CAP_…`) on a processor of Rust's name
/// `architecture`.
pub(super) fn filter(
    capabilities: &[String],
    architecture: &str,
) -> Result<Value, serde_json::Error> {
    let profile: Profile = serde_json::from_str(PROFILE)?;
    let has = |capability: &String| capabilities.contains(capability);
    let mut allowed = profile.allow;
    for entry in profile.with_capability.into_iter().filter(|entry| has(&entry.capability)) {
        allowed.extend(entry.names);
    }
    allowed.sort_unstable();
    allowed.dedup();
    let mut rules = vec![json!({"names": allowed, "action": "SCMP_ACT_ALLOW"})];
    let without = profile.without_capability.into_iter();
    rules.extend(without.filter(|entry| !has(&entry.capability)).map(|entry| entry.rule));
    rules.extend(profile.with_arguments);
    Ok(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": EPERM,
        "architectures": profile.architectures.get(architecture).cloned().unwrap_or_default(),
        "syscalls": rules,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(capabilities: &[&str]) -> Vec<String> {
        let capabilities: Vec<String> = capabilities.iter().map(|c| (*c).to_owned()).collect();
        let filter = filter(&capabilities, "x86_64").unwrap();
        serde_json::from_value(filter["syscalls"][0]["names"].clone()).unwrap()
    }

    #[test]
    fn capabilities_open_their_calls() {
        let plain = allowed(&[]);
        for name in ["read", "openat", "execve", "futex", "clock_gettime"] {
            assert!(plain.iter().any(|allowed| allowed == name), "{name}");
        }
        for name in [
            "mount",
            "unshare",
            "setns",
            "bpf",
            "keyctl",
            "kexec_load",
            "reboot",
            "clone",
            "io_uring_setup",
            "userfaultfd",
        ] {
            assert!(!plain.iter().any(|allowed| allowed == name), "{name}");
        }
        assert!(allowed(&["CAP_SYS_ADMIN"]).iter().any(|name| name == "mount"));
        assert!(allowed(&["CAP_SYS_CHROOT"]).iter().any(|name| name == "chroot"));
    }

    #[test]
    fn it_is_a_filter_of_the_specification() {
        for architecture in ["x86_64", "aarch64", "arm"] {
            let filter = filter(&[], architecture).unwrap();
            let filter: oci_spec::runtime::LinuxSeccomp = serde_json::from_value(filter).unwrap();
            assert!(!filter.architectures().as_ref().unwrap().is_empty());
            let json = serde_json::to_string(&filter).unwrap();
            assert!(json.contains("\"clone3\"") && json.contains("2114060288"), "{json}");
        }
    }
}
