//! Settings of the network namespace that this thread is in, below `/proc/sys/net`.

use std::fs;
use std::io;
use std::path::PathBuf;

/// Why a setting could not be made.
#[derive(Debug, thiserror::Error)]
#[error("set net.{} to {value}", name.replace('/', "."))]
pub(crate) struct SettingError {
    name: String,
    value: String,
    pub(crate) source: io::Error,
}

fn path(name: &str) -> PathBuf {
    PathBuf::from("/proc/sys/net").join(name)
}

/// Makes a setting, named by its path (`ipv4/ip_forward`).
pub(crate) fn set(name: &str, value: &str) -> Result<(), SettingError> {
    fs::write(path(name), value).map_err(|source| SettingError {
        name: name.to_owned(),
        value: value.to_owned(),
        source,
    })
}

/// Makes a setting unless the kernel does not have it.
pub(crate) fn set_if_there(name: &str, value: &str) -> Result<(), SettingError> {
    match set(name, value) {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// What a setting is; none if the kernel does not have it.
pub(crate) fn get(name: &str) -> Option<String> {
    fs::read_to_string(path(name)).ok().map(|value| value.trim().to_owned())
}

/// The names of the devices that have settings of a family (`ipv6`), `all` and `default` among them.
pub(crate) fn devices(family: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(path(family).join("conf")) else { return vec![] };
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
