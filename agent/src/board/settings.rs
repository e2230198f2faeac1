//! `limpet.toml` of a board, taken apart.
//!
//! In: the file on the boot partition, which people change by hand. Out: `agent.toml` for the agent, `env`
//! for the scripts of the image, `wifi.conf` for wpa_supplicant. A file that is not in order is said so, and the last one that was takes
//! its place: a slip in the editor may not take a board out of the fleet.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Table;

use super::wifi::{self, WifiError};
use crate::ledger::durable;

/// A configuration file is a page of text; more is a mistake.
const MAX_BYTES: usize = 64 * 1024;
/// What is used where nothing is said.
const TIME_SERVERS: [&str; 2] = ["0.debian.pool.ntp.org", "1.debian.pool.ntp.org"];
const ZRAM_PERCENT: u8 = 50;
const WATCHDOG_SECONDS: u8 = 15;
const INTERFACE: &str = "eth0";
const WIFI_INTERFACE: &str = "wlan0";

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum SettingsError {
    /// A file or folder.
    #[error("{attempt} {}", path.display())]
    Access {
        /// What was tried.
        attempt: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// What is in the file.
    #[error("{}", path.display())]
    Content {
        /// Of which.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: ContentError,
    },
}

/// What is wrong in a file.
#[derive(Debug, thiserror::Error)]
pub(super) enum ContentError {
    /// It is larger than any.
    #[error("the file has more than {MAX_BYTES} bytes")]
    TooLarge,
    /// It is no TOML, or has a name that is none.
    #[error("{0}")]
    Syntax(#[from] toml::de::Error),
    /// A value with characters that the scripts do not take.
    #[error("{name} {value:?}: use letters, digits and . : / - _ only")]
    Characters {
        /// Of what.
        name: &'static str,
        /// As it was given.
        value: String,
    },
    /// No setting of Wi-Fi.
    #[error(transparent)]
    Wifi(#[from] WifiError),
    /// An address without what belongs to it.
    #[error("network.address {0:?}: write ADDRESS/PREFIX, such as 192.168.1.70/24")]
    Address(String),
}

/// All of the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Settings {
    agent: Table,
    board: Board,
    network: Network,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Board {
    host_name: Option<String>,
    time_servers: Option<Vec<String>>,
    zram_percent: Option<u8>,
    watchdog_seconds: Option<u8>,
    console: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Network {
    interface: Option<String>,
    address: Option<String>,
    gateway: Option<IpAddr>,
    name_servers: Vec<IpAddr>,
    wifi_ssid: Option<String>,
    wifi_password: Option<String>,
    wifi_country: Option<String>,
}

impl Network {
    /// What wpa_supplicant is told, where there is Wi-Fi.
    fn wifi(&self) -> Result<Option<String>, WifiError> {
        let Some(ssid) = &self.wifi_ssid else {
            let of_none =
                [(&self.wifi_password, "wifi-password"), (&self.wifi_country, "wifi-country")];
            let set = of_none.iter().find(|(value, _)| value.is_some());
            return set.map_or(Ok(None), |(_, name)| Err(WifiError::NoSsid(name)));
        };
        if let Some(other) = self.interface.as_ref().filter(|name| !name.starts_with("wl")) {
            return Err(WifiError::Interface(other.clone()));
        }
        let password = self.wifi_password.as_deref().unwrap_or_default();
        wifi::configuration(ssid, password, self.wifi_country.as_deref()).map(Some)
    }

    fn interface(&self) -> String {
        let usual = if self.wifi_ssid.is_some() { WIFI_INTERFACE } else { INTERFACE };
        self.interface.clone().unwrap_or_else(|| usual.to_owned())
    }
}

impl Settings {
    /// Writes the parts of the file, or of the last one in order, and keeps what is in order.
    ///
    /// # Errors
    /// [`SettingsError`] if the file itself could not be used, though the parts may be those of the
    /// last one.
    pub(super) fn take_apart(file: &Path, kept: &Path, into: &Path) -> Result<(), SettingsError> {
        match Self::read(file) {
            Ok((settings, text)) => {
                settings.write(into)?;
                if fs::read(kept).ok().as_deref() != Some(text.as_bytes()) {
                    keep(kept, &text)?;
                }
                Ok(())
            }
            Err(error) => {
                // The first boot has none; what is wrong with the file is the thing to say then.
                if let Ok((settings, _)) = Self::read(kept) {
                    settings.write(into)?;
                }
                Err(error)
            }
        }
    }

    fn read(path: &Path) -> Result<(Self, String), SettingsError> {
        let text = fs::read_to_string(path).map_err(|source| SettingsError::Access {
            attempt: "read",
            path: path.to_owned(),
            source,
        })?;
        let settings = Self::parse(&text)
            .map_err(|source| SettingsError::Content { path: path.to_owned(), source })?;
        Ok((settings, text))
    }

    fn parse(text: &str) -> Result<Self, ContentError> {
        if text.len() > MAX_BYTES {
            return Err(ContentError::TooLarge);
        }
        let settings: Self = toml::from_str(text)?;
        // Made once to see whether they can be.
        settings.parts().map(|_| settings)
    }

    /// Names and contents of all parts.
    fn parts(&self) -> Result<Vec<(&'static str, String)>, ContentError> {
        let mut parts = vec![("env", self.environment()?), ("agent.toml", self.agent.to_string())];
        parts.extend(self.network.wifi()?.map(|text| ("wifi.conf", text)));
        Ok(parts)
    }

    fn write(&self, into: &Path) -> Result<(), SettingsError> {
        let content = |source| SettingsError::Content { path: into.to_owned(), source };
        for (name, text) in self.parts().map_err(content)? {
            let path = into.join(name);
            // There are secrets in it.
            let mut options = OpenOptions::new();
            let options = options.write(true).create(true).truncate(true).mode(0o600);
            let written = options.open(&path).and_then(|mut it| it.write_all(text.as_bytes()));
            let failed = |source| SettingsError::Access { attempt: "write", path, source };
            written.map_err(failed)?;
        }
        Ok(())
    }

    /// Assignments for a shell. Each value is of characters that mean nothing to one.
    fn environment(&self) -> Result<String, ContentError> {
        let Self { board, network, .. } = self;
        let servers = board.time_servers.clone();
        let servers = servers.unwrap_or_else(|| TIME_SERVERS.map(str::to_owned).to_vec());
        let address = network.address.clone().unwrap_or_default();
        let split = address.split_once('/');
        let whole = split.is_some_and(|(ip, prefix)| {
            ip.parse::<IpAddr>().is_ok() && prefix.parse::<u8>().is_ok()
        });
        if !address.is_empty() && !whole {
            return Err(ContentError::Address(address));
        }
        let name_servers: Vec<_> = network.name_servers.iter().map(IpAddr::to_string).collect();
        let mut text = String::new();
        for (name, variable, value) in [
            ("board.host-name", "HOST_NAME", board.host_name.clone().unwrap_or_default()),
            ("board.time-servers", "TIME_SERVERS", servers.join(" ")),
            ("board.zram-percent", "ZRAM_PERCENT", told(board.zram_percent, ZRAM_PERCENT)),
            (
                "board.watchdog-seconds",
                "WATCHDOG_SECONDS",
                told(board.watchdog_seconds, WATCHDOG_SECONDS),
            ),
            ("board.console", "CONSOLE", board.console.to_string()),
            ("network.interface", "INTERFACE", network.interface()),
            ("network.address", "ADDRESS", address),
            (
                "network.gateway",
                "GATEWAY",
                network.gateway.map(|it| it.to_string()).unwrap_or_default(),
            ),
            ("network.name-servers", "NAME_SERVERS", name_servers.join(" ")),
        ] {
            let plain = |it: char| it.is_ascii_alphanumeric() || ".:/-_ ".contains(it);
            if !value.chars().all(plain) {
                return Err(ContentError::Characters { name, value });
            }
            text += &format!("{variable}='{value}'\n");
        }
        Ok(text)
    }
}

fn told(given: Option<u8>, default: u8) -> String {
    given.unwrap_or(default).to_string()
}

fn keep(path: &Path, text: &str) -> Result<(), SettingsError> {
    let failed = |source| SettingsError::Access { attempt: "keep", path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        durable::make_folder(folder).map_err(failed)?;
    }
    durable::write_and_sync(path, text.as_bytes()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(text: &str) -> Vec<String> {
        let settings = Settings::parse(text).unwrap();
        settings.environment().unwrap().lines().map(str::to_owned).collect()
    }

    fn refused(text: &str) -> String {
        Settings::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn scripts_get_plain_assignments() {
        let told = environment(
            "[board]\nhost-name = \"pump-7\"\ntime-servers = [\"a.example\", \"10.0.0.1\"]\nzram-percent = 0\n\
             [network]\naddress = \"10.0.0.7/24\"\ngateway = \"10.0.0.1\"\n",
        );
        for line in [
            "HOST_NAME='pump-7'",
            "TIME_SERVERS='a.example 10.0.0.1'",
            "ZRAM_PERCENT='0'",
            "WATCHDOG_SECONDS='15'",
            "CONSOLE='false'",
            "ADDRESS='10.0.0.7/24'",
            "GATEWAY='10.0.0.1'",
        ] {
            assert!(told.iter().any(|it| it == line), "{line} in {told:?}");
        }
        assert!(environment("").iter().any(|it| it == "HOST_NAME=''"));
    }

    #[test]
    fn wifi_has_a_file_and_an_interface_of_its_own() {
        let parts = |text: &str| Settings::parse(text).unwrap().parts().unwrap();
        let with = parts("[network]\nwifi-ssid = \"pumps\"\nwifi-password = \"under pressure\"\n");
        assert!(with.iter().any(|(name, text)| *name == "env" && text.contains("='wlan0'")));
        let told = with.iter().find(|(name, _)| *name == "wifi.conf").unwrap();
        assert!(told.1.contains("psk=\"under pressure\""), "{told:?}");
        let without = parts("");
        assert!(without.iter().any(|(name, text)| *name == "env" && text.contains("='eth0'")));
        assert!(without.iter().all(|(name, _)| *name != "wifi.conf"));

        assert!(refused("[network]\nwifi-country = \"DE\"\n").contains("wifi-ssid is not"));
        let both = refused("[network]\nwifi-ssid = \"a\"\ninterface = \"eth0\"\n");
        assert!(both.contains("take one of them away"), "{both}");
        let secret = refused("[network]\nwifi-ssid = \"a\"\nwifi-password = \"seven77\"\n");
        assert!(secret.contains("8 to 63") && !secret.contains("seven77"), "{secret}");
    }

    #[test]
    fn what_a_shell_would_not_take_is_refused() {
        assert!(refused("[board]\nhost-name = \"a'; reboot '\"").contains("letters, digits"));
        assert!(refused("[network]\naddress = \"10.0.0.7\"").contains("ADDRESS/PREFIX"));
        assert!(refused("[network]\naddress = \"10.0.0.7/`x`\"").contains("ADDRESS/PREFIX"));
        assert!(refused("[bord]\n").contains("bord"));
        assert!(refused(&" ".repeat(MAX_BYTES + 1)).contains("more than"));
    }

    #[test]
    fn a_slip_in_the_editor_leaves_the_last_settings() {
        let folder = tempfile::tempdir().unwrap();
        let [file, kept, into] =
            ["limpet.toml", "state/limpet.toml", "parts"].map(|name| folder.path().join(name));
        fs::create_dir(&into).unwrap();
        fs::write(&file, "[agent]\nnode-name = \"a\"\n[agent.labels]\nsite = \"north\"\n").unwrap();
        Settings::take_apart(&file, &kept, &into).unwrap();
        let agent = |into: &Path| fs::read_to_string(into.join("agent.toml")).unwrap();
        let first = agent(&into);
        assert!(first.contains("node-name = \"a\"") && first.contains("[labels]"), "{first}");

        fs::write(&file, "[agent\nnode-name = \"b\"\n").unwrap();
        fs::remove_file(into.join("agent.toml")).unwrap();
        let error = Settings::take_apart(&file, &kept, &into).unwrap_err();
        assert!(matches!(error, SettingsError::Content { .. }), "{error}");
        assert_eq!(agent(&into), first);
    }
}
