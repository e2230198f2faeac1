//! The plan of a container: all that the forked child needs to make it.
//!
//! In: what the agent decided ([`crate::runtime::oci_spec`]). What only the node can say (whose
//! number a user name has in this image, which number a device has) the child fills in.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::wire::Blob;
use crate::ledger::content::ContentRef;

/// All that a container is made of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The OCI runtime specification as JSON, but for what the child fills in.
    pub config: Blob,
    /// The unpacked layers of the image, topmost first.
    pub layers: Vec<PathBuf>,
    /// `user[:group]` as the spec or the image says, empty for root.
    pub user: String,
    /// Further groups.
    pub groups: Vec<String>,
    /// Folders of the node that are made when they are not there.
    pub make_folders: Vec<PathBuf>,
    /// Named volumes: they are made when they are not there, with the image's content.
    pub volumes: Vec<VolumePlan>,
    /// Configs and secrets.
    #[serde(default)]
    pub contents: Vec<ContentPlan>,
    /// Devices of the node.
    pub devices: Vec<DevicePlan>,
    /// Whether it has a network namespace of its own, whose loopback device is to be brought up.
    pub own_network: bool,
    /// Whether its standard input stays open (and silent) or is empty.
    pub open_stdin: bool,
    /// Whether its first process is an init that passes signals on and reaps.
    #[serde(default)]
    pub init: bool,
    /// Content of `/etc/hostname`.
    pub hostname: String,
    /// Content of `/etc/hosts`.
    pub hosts: String,
    /// Content of `/etc/resolv.conf`; none takes the node's.
    pub resolv_conf: Option<String>,
    /// Search domains, which replace others.
    pub resolv_search: String,
    /// Options of the resolver, which replace others.
    #[serde(default)]
    pub resolv_options: String,
}

/// A named volume in a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct VolumePlan {
    /// Its folder under the volume root.
    pub name: String,
    /// Where it is in the container, and in the image whose content it takes at first.
    pub target: String,
    /// Whether it begins empty.
    #[serde(default)]
    pub no_copy: bool,
    /// A folder within it that is mounted instead of all of it.
    #[serde(default)]
    pub subpath: Option<String>,
}

/// A config or secret in a container; where it goes is a mount of the configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ContentPlan {
    /// Which one of the ledger's.
    pub content: ContentRef,
    /// What people call it.
    pub what: String,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its permission bits.
    pub mode: u32,
}

/// A device in a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DevicePlan {
    /// The path on the node; a folder stands for the devices in it.
    pub host_path: PathBuf,
    /// The path in the container.
    pub container_path: PathBuf,
    /// Which of `r`, `w`, `m`.
    pub permissions: String,
}
