//! Configuration: flags before environment before file before defaults.
//!
//! In: [`AgentArgs`] as clap read them from the command line and the environment, and the TOML file
//! that they name. Out: one [`Config`] in which every value is checked, or one sentence that says
//! which value is wrong, where it came from and what to write instead.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use limpet_protocol::broker_url::{BrokerUrl, BrokerUrlError};
use limpet_protocol::id::NodeId;
use limpet_protocol::label::{self, LabelError};
use limpet_protocol::limits::MAX_LABELS_PER_NODE;
use serde::Deserialize;

use crate::image::RegistryCa;

/// Where the agent keeps its identity, its ledger, images and volumes.
pub const DEFAULT_DATA: &str = "/var/lib/limpet";
/// Where it keeps what need not survive a reboot; memory-backed on any usual system.
pub const DEFAULT_RUN: &str = "/run/limpet";
/// The cgroup above those of all containers.
pub const DEFAULT_CGROUP_PARENT: &str = "/limpet";
/// The port that WireGuard's own tools take.
pub const DEFAULT_MESH_PORT: u16 = 51_820;
/// A configuration file is a page of text; more is a mistake.
const MAX_CONFIG_BYTES: u64 = 64 * 1024;

/// What the command line and the environment say. `limpet-agent` and `limpet agent` share it.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct AgentArgs {
    /// TOML file with the same names as the flags: `controller = "mqtt://10.0.0.1:1883"`
    #[arg(long, env = "LIMPET_AGENT_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The controller's broker: mqtt://HOST[:PORT], or mqtt://USER:PASSWORD@HOST for a broker of your own
    #[arg(long, env = "LIMPET_AGENT_CONTROLLER", value_name = "URL", hide_env_values = true)]
    pub controller: Option<String>,
    /// Token that lets this node join; make one with `limpet token create`. Needed once
    #[arg(long, env = "LIMPET_AGENT_JOIN_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub join_token: Option<String>,
    /// File with the join token, for when it must not be seen in the process list
    #[arg(long, env = "LIMPET_AGENT_JOIN_TOKEN_FILE", value_name = "FILE")]
    pub join_token_file: Option<PathBuf>,
    /// The name that this node asks for when it joins [default: its host name]
    #[arg(long, env = "LIMPET_AGENT_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,
    /// Label of this node for placement constraints; may be given several times
    #[arg(
        long = "label",
        env = "LIMPET_AGENT_LABELS",
        value_name = "KEY=VALUE",
        value_delimiter = ','
    )]
    pub labels: Vec<String>,
    /// Folder for identity, ledger, images and volumes [default: /var/lib/limpet]
    #[arg(long, env = "LIMPET_AGENT_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Memory-backed folder for sockets, logs and what a reboot may clear [default: /run/limpet]
    #[arg(long, env = "LIMPET_AGENT_RUN", value_name = "DIR")]
    pub run: Option<PathBuf>,
    /// Cgroup under which every container's is made [default: /limpet]
    #[arg(long, env = "LIMPET_AGENT_CGROUP_PARENT", value_name = "PATH")]
    pub cgroup_parent: Option<String>,
    /// Stop all containers when the agent is told to end; without it they go on running
    #[arg(long, env = "LIMPET_AGENT_STOP_ON_EXIT", num_args = 0..=1, default_missing_value = "true")]
    pub stop_on_exit: Option<bool>,
    /// How log lines look: text for people, json for machines [default: text]
    #[arg(long, env = "LIMPET_AGENT_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Registry spoken to over plain HTTP, `HOST[:PORT]`; may be given several times
    #[arg(
        long = "insecure-registry",
        env = "LIMPET_AGENT_INSECURE_REGISTRIES",
        value_name = "HOST",
        value_delimiter = ','
    )]
    pub insecure_registries: Vec<String>,
    /// CA certificates (PEM) to trust for one registry, which is then always spoken to over TLS, or,
    /// without HOST, besides those of the system for all; may be given several times
    #[arg(
        long = "registry-ca",
        env = "LIMPET_AGENT_REGISTRY_CAS",
        value_name = "[HOST[:PORT]=]FILE",
        value_delimiter = ','
    )]
    pub registry_cas: Vec<String>,
    /// Whether containers get networks; without, a service has the node's network or none [default: on]
    #[arg(long, env = "LIMPET_AGENT_NETWORK", value_name = "ON|OFF")]
    pub network: Option<Switch>,
    /// UDP port where other nodes of the fleet reach this one (WireGuard) [default: 51820]
    #[arg(long, env = "LIMPET_AGENT_MESH_PORT", value_name = "PORT")]
    pub mesh_port: Option<u16>,
    /// Where other nodes reach this one besides its own addresses, such as a forwarded port of its
    /// router; may be given several times
    #[arg(
        long = "mesh-endpoint",
        env = "LIMPET_AGENT_MESH_ENDPOINTS",
        value_name = "ADDRESS:PORT",
        value_delimiter = ','
    )]
    pub mesh_endpoints: Vec<SocketAddr>,
}

/// Whether something is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Switch {
    /// It is.
    #[default]
    On,
    /// It is not.
    Off,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One line of text each.
    #[default]
    Text,
    /// One JSON object each.
    Json,
}

/// The join token. Its text is a secret, so it has no `Display` and its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken(String);

impl JoinToken {
    /// The token's text.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JoinToken(..)")
    }
}

/// Everything the agent was told, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The broker.
    pub controller: BrokerUrl,
    /// The token to join with; needed only while the data folder holds no identity.
    pub join_token: Option<JoinToken>,
    /// The name to ask for; the host name if none.
    pub node_name: Option<NodeId>,
    /// The node's labels.
    pub labels: BTreeMap<String, String>,
    /// Identity, ledger, images, volumes.
    pub data: PathBuf,
    /// What a reboot may clear.
    pub run: PathBuf,
    /// The cgroup above those of all containers, absolute.
    pub cgroup_parent: String,
    /// Whether the containers end with the agent.
    pub stop_on_exit: bool,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Registries without TLS.
    pub insecure_registries: Vec<String>,
    /// Private CAs of registries.
    pub registry_cas: Vec<RegistryCa>,
    /// The networks of containers.
    pub network: NetworkConfig,
}

/// What was told of the networks of containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Whether there are any.
    pub switch: Switch,
    /// The UDP port where other nodes reach this one.
    pub mesh_port: u16,
    /// Where else they reach it.
    pub mesh_endpoints: Vec<SocketAddr>,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there or cannot be read.
    #[error("read configuration file {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The file is far larger than any configuration.
    #[error("configuration file {} is larger than {MAX_CONFIG_BYTES} bytes", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
    /// The file is not the TOML that the agent knows.
    #[error("configuration file {}", path.display())]
    Parse {
        /// Which.
        path: PathBuf,
        /// Line, column and what was expected.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// Nobody said where the controller is.
    #[error(
        "no controller: give --controller mqtt://HOST:1883, set LIMPET_AGENT_CONTROLLER, or write controller = \"mqtt://HOST:1883\" in the file that --config names"
    )]
    NoController,
    /// The broker's URL cannot be used.
    #[error("controller")]
    Controller(#[source] BrokerUrlError),
    /// The node name is none.
    #[error("node name {name:?}")]
    NodeName {
        /// As it was given.
        name: String,
        /// What is wrong with it.
        #[source]
        source: limpet_protocol::id::NameError,
    },
    /// A label without a value.
    #[error("label {label:?}: write KEY=VALUE")]
    NoLabel {
        /// As it was given.
        label: String,
    },
    /// A label that no node may have.
    #[error("label {label:?}")]
    Label {
        /// As it was given.
        label: String,
        /// What is wrong with it.
        #[source]
        source: LabelError,
    },
    /// A CA without a file, or of no registry.
    #[error("registry-ca {text:?}: write FILE, or HOST[:PORT]=FILE")]
    RegistryCa {
        /// As it was given.
        text: String,
    },
    /// More labels than a node may have.
    #[error("{count} labels; a node may have {MAX_LABELS_PER_NODE}")]
    TooManyLabels {
        /// How many were given.
        count: usize,
    },
    /// A path that must be absolute is not.
    #[error("{what} {value:?} must be an absolute path without '..'")]
    NotAbsolute {
        /// Which setting.
        what: &'static str,
        /// As it was given.
        value: String,
    },
}

/// The file. Every name is that of the flag.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct File {
    controller: Option<String>,
    join_token: Option<String>,
    join_token_file: Option<PathBuf>,
    node_name: Option<String>,
    labels: BTreeMap<String, String>,
    data: Option<PathBuf>,
    run: Option<PathBuf>,
    cgroup_parent: Option<String>,
    stop_on_exit: Option<bool>,
    log_format: Option<LogFormat>,
    insecure_registries: Vec<String>,
    registry_cas: Vec<String>,
    network: Option<Switch>,
    mesh_port: Option<u16>,
    mesh_endpoints: Vec<SocketAddr>,
}

impl Config {
    /// Puts flags and environment over the file over the defaults and checks every value.
    ///
    /// # Errors
    /// [`ConfigError`] for the first value that cannot be used.
    pub fn load(args: &AgentArgs) -> Result<Self, ConfigError> {
        let file = args.config.as_deref().map(File::read).transpose()?.unwrap_or_default();
        Self::merge(args, file)
    }

    fn merge(args: &AgentArgs, file: File) -> Result<Self, ConfigError> {
        let join_token = join_token(args, &file)?;
        let controller =
            args.controller.clone().or(file.controller).ok_or(ConfigError::NoController)?;
        let node_name = args.node_name.clone().or(file.node_name);
        let cgroup_parent = args
            .cgroup_parent
            .clone()
            .or(file.cgroup_parent)
            .unwrap_or_else(|| DEFAULT_CGROUP_PARENT.to_owned());
        Ok(Self {
            controller: controller.parse().map_err(ConfigError::Controller)?,
            join_token,
            node_name: node_name
                .map(|name| {
                    NodeId::new(&name).map_err(|source| ConfigError::NodeName { name, source })
                })
                .transpose()?,
            labels: labels(&args.labels, file.labels)?,
            data: absolute("data", args.data.clone().or(file.data), DEFAULT_DATA)?,
            run: absolute("run", args.run.clone().or(file.run), DEFAULT_RUN)?,
            cgroup_parent: cgroup_path(cgroup_parent)?,
            stop_on_exit: args.stop_on_exit.or(file.stop_on_exit).unwrap_or(false),
            log_format: args.log_format.or(file.log_format).unwrap_or_default(),
            insecure_registries: given(&args.insecure_registries, file.insecure_registries),
            registry_cas: registry_cas(given(&args.registry_cas, file.registry_cas))?,
            network: NetworkConfig {
                switch: args.network.or(file.network).unwrap_or_default(),
                mesh_port: args.mesh_port.or(file.mesh_port).unwrap_or(DEFAULT_MESH_PORT),
                mesh_endpoints: given(&args.mesh_endpoints, file.mesh_endpoints),
            },
        })
    }
}

/// What is nearer to the person, if they said anything there.
fn given<T: Clone>(near: &[T], file: Vec<T>) -> Vec<T> {
    if near.is_empty() { file } else { near.to_vec() }
}

/// Reads no file yet: a certificate that is missing stops a pull, never the agent.
fn registry_cas(given: Vec<String>) -> Result<Vec<RegistryCa>, ConfigError> {
    let read = |text: String| {
        let (registry, file) = match text.split_once('=') {
            Some((registry, file)) => (Some(registry.to_owned()), file),
            None => (None, text.as_str()),
        };
        if file.is_empty() || registry.as_deref() == Some("") {
            return Err(ConfigError::RegistryCa { text });
        }
        let file = absolute("registry-ca", Some(PathBuf::from(file)), "/")?;
        Ok(RegistryCa { registry, file })
    };
    given.into_iter().map(read).collect()
}

impl File {
    fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = read_bounded(path)?;
        toml::from_str(&text).map_err(|source| ConfigError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }
}

fn read_bounded(path: &Path) -> Result<String, ConfigError> {
    use std::io::Read as _;
    let failed = |source| ConfigError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    let read = file.take(MAX_CONFIG_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if read as u64 > MAX_CONFIG_BYTES {
        return Err(ConfigError::TooLarge { path: path.to_owned() });
    }
    Ok(text)
}

/// The token itself goes before its file, and what is nearer to the person before the file of settings.
fn join_token(args: &AgentArgs, file: &File) -> Result<Option<JoinToken>, ConfigError> {
    let given =
        [(&args.join_token, &args.join_token_file), (&file.join_token, &file.join_token_file)];
    for (token, path) in given {
        if let Some(token) = token {
            return Ok(Some(JoinToken(token.trim().to_owned())));
        }
        if let Some(path) = path {
            return Ok(Some(JoinToken(read_bounded(path)?.trim().to_owned())));
        }
    }
    Ok(None)
}

fn labels(
    given: &[String],
    file: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut labels = file;
    for label in given {
        let Some((key, value)) = label.split_once('=') else {
            return Err(ConfigError::NoLabel { label: label.clone() });
        };
        labels.insert(key.trim().to_owned(), value.trim().to_owned());
    }
    for (key, value) in &labels {
        label::check(key, value)
            .map_err(|source| ConfigError::Label { label: format!("{key}={value}"), source })?;
    }
    if labels.len() > MAX_LABELS_PER_NODE {
        return Err(ConfigError::TooManyLabels { count: labels.len() });
    }
    Ok(labels)
}

fn absolute(
    what: &'static str,
    given: Option<PathBuf>,
    default: &str,
) -> Result<PathBuf, ConfigError> {
    let path = given.unwrap_or_else(|| PathBuf::from(default));
    let path = std::path::absolute(&path).unwrap_or(path);
    let climbs = path.components().any(|part| matches!(part, std::path::Component::ParentDir));
    if climbs || !path.is_absolute() {
        return Err(ConfigError::NotAbsolute { what, value: path.display().to_string() });
    }
    Ok(path)
}

fn cgroup_path(value: String) -> Result<String, ConfigError> {
    let plain = value.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
    if !value.starts_with('/') || !plain {
        return Err(ConfigError::NotAbsolute { what: "cgroup-parent", value });
    }
    Ok(value)
}

#[cfg(test)]
mod tests;
