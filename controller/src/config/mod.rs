//! Configuration: flags before environment before file before defaults.
//!
//! In: [`ControllerArgs`] as clap read them from the command line and the environment, and the TOML
//! file that they name. Out: one [`Config`] in which every value is checked, or one sentence that
//! says which value is wrong, where it came from and what to write instead.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use limpet_protocol::broker_url::BrokerUrl;
use limpet_protocol::network::{Subnet, SubnetError};
use serde::Deserialize;

use crate::network::pool::{Pool, PoolError, unique_local};

/// Where root's controller keeps its data.
pub const DEFAULT_DATA: &str = "/var/lib/limpet-controller";
/// Where the API listens.
pub const DEFAULT_API_LISTEN: &str = "127.0.0.1:7600";
/// Where the embedded broker listens.
pub const DEFAULT_MQTT_LISTEN: &str = "127.0.0.1:1883";
/// How long a node may be away before its work is given to others.
pub const DEFAULT_LOST_AFTER: Duration = Duration::from_secs(30);
/// The addresses of all containers: a quarter of 10.0.0.0/8 that few others use.
pub const DEFAULT_POOL: &str = "10.128.0.0/10";
/// A part of them for a node.
pub const DEFAULT_NODE_PREFIX: u8 = 24;
/// What is logged: the broker library speaks of every client at `info`.
pub const DEFAULT_LOG: &str = "info,mqtt5=warn";
/// A shorter time would take every hiccup of a radio link for the loss of a node.
const SHORTEST_LOST_AFTER: Duration = Duration::from_millis(500);
/// A configuration file is a page of text; more is a mistake.
const MAX_CONFIG_BYTES: u64 = 64 * 1024;

/// What the command line and the environment say. `limpet-controller` and `limpet controller` share it.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(after_help = "\
Each option can also be given in the environment (LIMPET_CONTROLLER_DATA and so on) or in the file
that --config names, with the same names: `api-listen = \"0.0.0.0:7600\"`. The command line wins over
the environment, and that over the file.

At its first start the controller makes a token for you: DIR/admin.token. The command line finds it
by itself in DIR/client.toml. To let machines join from elsewhere:
  limpet-controller --mqtt-listen 0.0.0.0:1883 --api-listen 0.0.0.0:7600
Neither has TLS yet: do that in a network that you trust.")]
pub struct ControllerArgs {
    /// TOML file with the same names as the options
    #[arg(long, env = "LIMPET_CONTROLLER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder for the store, the images and the first token [default: /var/lib/limpet-controller
    /// as root, else ~/.local/share/limpet-controller]
    #[arg(long, env = "LIMPET_CONTROLLER_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where the API listens; also where nodes fetch images [default: 127.0.0.1:7600]
    #[arg(long, env = "LIMPET_CONTROLLER_API_LISTEN", value_name = "ADDR:PORT")]
    pub api_listen: Option<SocketAddr>,
    /// Where the embedded MQTT broker listens for agents [default: 127.0.0.1:1883]
    #[arg(long, env = "LIMPET_CONTROLLER_MQTT_LISTEN", value_name = "ADDR:PORT")]
    pub mqtt_listen: Option<SocketAddr>,
    /// A broker of your own instead of the embedded one: mqtt://[USER:PASSWORD@]HOST[:PORT]
    #[arg(
        long,
        env = "LIMPET_CONTROLLER_BROKER",
        value_name = "URL",
        hide_env_values = true,
        conflicts_with = "mqtt_listen"
    )]
    pub broker: Option<BrokerUrl>,
    /// Host under which nodes reach the API for images, where it is not the broker's
    #[arg(long, env = "LIMPET_CONTROLLER_IMAGE_HOST", value_name = "HOST")]
    pub image_host: Option<String>,
    /// How long a node may be out of reach before its work is given to others [default: 30s]
    #[arg(long, env = "LIMPET_CONTROLLER_LOST_AFTER", value_name = "DURATION", value_parser = parse_duration)]
    pub lost_after: Option<Duration>,
    /// IPv4 addresses of all containers of the fleet; each node gets a part. The first that is used stays,
    /// also if this is changed, as long as a node has addresses of it [default: 10.128.0.0/10]
    #[arg(long, env = "LIMPET_CONTROLLER_NETWORK_POOL", value_name = "ADDR/BITS")]
    pub network_pool: Option<Subnet>,
    /// How large the part of a node is, in bits of its prefix: 24 is 253 containers [default: 24]
    #[arg(long, env = "LIMPET_CONTROLLER_NETWORK_NODE_PREFIX", value_name = "BITS")]
    pub network_node_prefix: Option<u8>,
    /// What is logged: error, warn, info, debug, trace, or a filter as limpet_controller=debug,info
    /// [default: info,mqtt5=warn]
    #[arg(long, env = "LIMPET_CONTROLLER_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// How log lines look: text for people, json for machines [default: text]
    #[arg(long, env = "LIMPET_CONTROLLER_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
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

/// Which broker carries the messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broker {
    /// Our own, on this address.
    Embedded(SocketAddr),
    /// Somebody else's.
    External(BrokerUrl),
}

/// Everything the controller was told, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Store, images, tokens.
    pub data: PathBuf,
    /// Where the API listens; port 0 takes any.
    pub api_listen: SocketAddr,
    /// Which broker.
    pub broker: Broker,
    /// Host under which nodes reach the API, where it is not the broker's.
    pub image_host: Option<String>,
    /// How long a node may be away before its work is given to others.
    pub lost_after: Duration,
    /// The addresses of the fleet's containers, and the prefix of a node's part.
    pub network: (Subnet, u8),
    /// What is logged.
    pub log: String,
    /// How log lines look.
    pub log_format: LogFormat,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there or cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The file is far larger than any configuration.
    #[error("the configuration file {} is larger than {MAX_CONFIG_BYTES} bytes", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
    /// Something in the file is wrong.
    #[error("{}, line {line}{}: {message}", path.display(), key.as_ref().map(|key| format!(", key {key}")).unwrap_or_default())]
    File {
        /// Which.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// The key on that line.
        key: Option<String>,
        /// What is wrong.
        message: String,
    },
    /// A value cannot be used.
    #[error("{option}: {message}")]
    Value {
        /// Which option.
        option: &'static str,
        /// What is wrong and what to write.
        message: String,
    },
}

/// The file, with the names of the options.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct File {
    data: Option<PathBuf>,
    api_listen: Option<SocketAddr>,
    mqtt_listen: Option<SocketAddr>,
    #[serde(deserialize_with = "from_text")]
    broker: Option<BrokerUrl>,
    image_host: Option<String>,
    #[serde(deserialize_with = "duration_from_text")]
    lost_after: Option<Duration>,
    network_pool: Option<Subnet>,
    network_node_prefix: Option<u8>,
    log: Option<String>,
    log_format: Option<LogFormat>,
}

fn from_text<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

fn duration_from_text<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    parse_duration(&String::deserialize(deserializer)?).map(Some).map_err(serde::de::Error::custom)
}

/// `500ms`, `30s`, `2m`, `1h`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let ms = digits.parse::<u64>().ok().zip(factor).and_then(|(n, factor)| n.checked_mul(factor));
    ms.map(Duration::from_millis)
        .ok_or_else(|| format!("{text:?} is not a duration; write 500ms, 30s, 2m or 1h"))
}

impl ControllerArgs {
    /// Reads the file, if one is named, and decides.
    ///
    /// # Errors
    /// [`ConfigError`]: a sentence that says which value is wrong and where it stands.
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let file = match &self.config {
            Some(path) => read(path)?,
            None => File::default(),
        };
        let broker = match (self.broker, self.mqtt_listen, file.broker, file.mqtt_listen) {
            (Some(url), ..) | (None, None, Some(url), None) => Broker::External(url),
            (None, None, Some(_), Some(_)) => {
                let message = "the file also has mqtt-listen: keep one of them".to_owned();
                return Err(ConfigError::Value { option: "broker", message });
            }
            (None, flag, _, file) => {
                Broker::Embedded(flag.or(file).unwrap_or(address(DEFAULT_MQTT_LISTEN)))
            }
        };
        let config = Config {
            data: absolute(self.data.or(file.data).unwrap_or_else(default_data))?,
            api_listen: self.api_listen.or(file.api_listen).unwrap_or(address(DEFAULT_API_LISTEN)),
            broker,
            image_host: self.image_host.or(file.image_host),
            lost_after: self.lost_after.or(file.lost_after).unwrap_or(DEFAULT_LOST_AFTER),
            network: (
                self.network_pool.or(file.network_pool).map_or_else(default_pool, Ok)?,
                self.network_node_prefix
                    .or(file.network_node_prefix)
                    .unwrap_or(DEFAULT_NODE_PREFIX),
            ),
            log: self.log.or(file.log).unwrap_or_else(|| DEFAULT_LOG.to_owned()),
            log_format: self.log_format.or(file.log_format).unwrap_or_default(),
        };
        config.check()
    }
}

impl Config {
    fn check(self) -> Result<Self, ConfigError> {
        if self.lost_after < SHORTEST_LOST_AFTER {
            let message = format!("must be {}ms at least", SHORTEST_LOST_AFTER.as_millis());
            return Err(ConfigError::Value { option: "lost-after", message });
        }
        let (pool, prefix) = self.network;
        if let Err(error) = Pool::new(pool, prefix, unique_local("")) {
            let option = match error {
                PoolError::Pool => "network-pool",
                PoolError::NodePrefix => "network-node-prefix",
            };
            return Err(ConfigError::Value { option, message: error.to_string() });
        }
        if self.image_host.as_ref().is_some_and(|host| host.is_empty() || host.contains('/')) {
            let message = "must be a host name or an address, without http:// or a port".to_owned();
            return Err(ConfigError::Value { option: "image-host", message });
        }
        Ok(self)
    }
}

fn address(text: &str) -> SocketAddr {
    // The constants above are addresses; a test reads them.
    text.parse().unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)))
}

fn default_pool() -> Result<Subnet, ConfigError> {
    DEFAULT_POOL.parse().map_err(|error: SubnetError| ConfigError::Value {
        option: "network-pool",
        message: error.to_string(),
    })
}

fn absolute(data: PathBuf) -> Result<PathBuf, ConfigError> {
    std::path::absolute(&data).map_err(|error| ConfigError::Value {
        option: "data",
        message: format!("{data:?} is not a folder's path ({error})"),
    })
}

fn default_data() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from(DEFAULT_DATA);
    }
    let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    set("XDG_DATA_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".local/share")))
        .map_or_else(|| PathBuf::from(DEFAULT_DATA), |share| share.join("limpet-controller"))
}

fn read(path: &Path) -> Result<File, ConfigError> {
    use std::io::Read as _;
    let failed = |source| ConfigError::Read { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut text = String::new();
    let bytes = file.take(MAX_CONFIG_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if u64::try_from(bytes).unwrap_or(u64::MAX) > MAX_CONFIG_BYTES {
        return Err(ConfigError::TooLarge { path: path.to_owned() });
    }
    toml::from_str(&text).map_err(|error| in_file(path, &text, &error))
}

fn in_file(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let at = error.span().map_or(0, |span| span.start).min(text.len());
    let before = text.get(..at).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let key = text.lines().nth(line - 1).and_then(|line| line.split_once('='));
    let key = key.map(|(key, _)| key.trim().to_owned());
    ConfigError::File {
        path: path.to_owned(),
        line,
        key,
        message: error.message().replace('\n', "; "),
    }
}

#[cfg(test)]
mod tests;
