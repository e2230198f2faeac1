//! Where the controller is and which token opens it.
//!
//! In come the flags, the environment and the two files that may say so; out comes one address and
//! one token, each with the place it was found, so that an error can name it. Flags win over the
//! environment, that over `~/.config/limpet/client.toml`, that over the `client.toml` which a
//! controller on this machine writes into its data folder. A file's token is never sent to a
//! server other than the file's.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde::Deserialize;

/// Where a controller listens when nothing else is said.
pub const DEFAULT_SERVER: &str = "http://127.0.0.1:7600";
/// Where `limpet up` keeps its data when nothing else is said.
pub const DEFAULT_DATA: &str = "/var/lib/limpet";
/// The folder of `limpet up`'s data that is the controller's.
pub const CONTROLLER_FOLDER: &str = "controller";
/// The file of the controller's data folder, and of the user's configuration folder.
pub const FILE: &str = "client.toml";
/// Largest such file: it holds two short lines.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// How the controller is reached.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Connection")]
pub struct ConnectionArgs {
    /// Address of the controller's API, such as http://10.0.0.5:7600
    #[arg(long, global = true, value_name = "URL", env = "LIMPET_SERVER", hide_env_values = true)]
    pub server: Option<String>,
    /// Token that opens the API
    #[arg(long, global = true, value_name = "TOKEN", env = "LIMPET_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
}

/// What a `client.toml` says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct ClientFile {
    /// Address of the API.
    #[serde(alias = "url")]
    pub server: Option<String>,
    /// Token that opens it.
    pub token: Option<String>,
}

/// Where a value was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `--server`, `--token` or the variable that stands for it.
    Argument(&'static str),
    /// A file.
    File(PathBuf),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument(name) => write!(f, "{name}"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Default => f.write_str("the default"),
        }
    }
}

/// The address and the token, and where each was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Address of the API.
    pub server: String,
    /// Who said so.
    pub server_source: Source,
    /// The token; none if none was found.
    pub token: Option<String>,
    /// Who gave it.
    pub token_source: Source,
    /// The files that were looked for, for the message when nothing is found.
    pub looked_in: Vec<PathBuf>,
}

impl ConnectionArgs {
    /// Reads the files and decides.
    ///
    /// # Errors
    /// If a file is there but cannot be understood. One that may not be read counts as absent.
    pub fn resolve(&self) -> anyhow::Result<Connection> {
        let mut files = Vec::new();
        let looked_in = candidates(|name| std::env::var_os(name).map(PathBuf::from));
        for path in &looked_in {
            if let Some(file) = read(path)? {
                files.push((path.clone(), file));
            }
        }
        Ok(decide(self, &files, looked_in))
    }
}

/// The files in the order in which they are asked: the person's own, that of `limpet up`, those of
/// `limpet controller` as root and as somebody else.
fn candidates(env: impl Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    let home = env("HOME");
    let under_home = |folder: &str| home.as_ref().map(|home| home.join(folder));
    let config = env("XDG_CONFIG_HOME").or_else(|| under_home(".config"));
    let mut folders: Vec<PathBuf> = config.map(|dir| dir.join("limpet")).into_iter().collect();
    if let Some(data) = env("LIMPET_DATA") {
        folders.extend([data.join(CONTROLLER_FOLDER), data]);
    } else {
        let share = env("XDG_DATA_HOME").or_else(|| under_home(".local/share"));
        folders.push(Path::new(DEFAULT_DATA).join(CONTROLLER_FOLDER));
        folders.push(PathBuf::from(limpet_controller::config::DEFAULT_DATA));
        folders.extend(share.map(|dir| dir.join("limpet-controller")));
    }
    folders.into_iter().map(|folder| folder.join(FILE)).collect()
}

fn read(path: &Path) -> anyhow::Result<Option<ClientFile>> {
    use std::io::Read as _;
    let Ok(file) = std::fs::File::open(path) else { return Ok(None) };
    let mut text = String::new();
    let read = file.take(MAX_FILE_BYTES).read_to_string(&mut text);
    read.with_context(|| format!("read {}", path.display()))?;
    let parsed = toml::from_str(&text).with_context(|| {
        format!("understand {} (it may hold `server` and `token`)", path.display())
    })?;
    Ok(Some(parsed))
}

fn decide(
    args: &ConnectionArgs,
    files: &[(PathBuf, ClientFile)],
    looked_in: Vec<PathBuf>,
) -> Connection {
    let said = |value: &Option<String>| value.clone().filter(|text| !text.trim().is_empty());
    let (server, server_source) = said(&args.server)
        .map(|server| (server, Source::Argument("--server or LIMPET_SERVER")))
        .or_else(|| {
            files.iter().find_map(|(path, file)| {
                file.server.clone().map(|server| (server, Source::File(path.clone())))
            })
        })
        .unwrap_or_else(|| (DEFAULT_SERVER.to_owned(), Source::Default));
    let token = said(&args.token)
        .map(|token| (token, Source::Argument("--token or LIMPET_TOKEN")))
        .or_else(|| {
            files.iter().find_map(|(path, file)| {
                let same = file.server.as_ref().is_none_or(|theirs| *theirs == server);
                let token = file.token.clone().filter(|_| same);
                token.map(|token| (token, Source::File(path.clone())))
            })
        });
    let (token, token_source) = token.map_or((None, Source::Default), |(t, s)| (Some(t), s));
    Connection { server, server_source, token, token_source, looked_in }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(server: &str, token: &str) -> ClientFile {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        ClientFile { server: given(server), token: given(token) }
    }

    #[test]
    fn flags_win_over_the_first_file_that_wins_over_the_second() {
        let user = (PathBuf::from("/u"), file("http://user", ""));
        let data = (PathBuf::from("/d"), file("http://data", "data-token"));
        let files = [user, data];
        let flags = ConnectionArgs { server: Some("http://data".into()), token: None };

        let connection = decide(&flags, &files, Vec::new());
        assert_eq!(connection.server_source, Source::Argument("--server or LIMPET_SERVER"));
        assert_eq!(connection.token.as_deref(), Some("data-token"));
        assert_eq!(connection.token_source, Source::File("/d".into()));

        let connection = decide(&ConnectionArgs::default(), &files[1..], Vec::new());
        assert_eq!(connection.server, "http://data");
        let connection = decide(&ConnectionArgs::default(), &[], Vec::new());
        assert_eq!((connection.server.as_str(), connection.token), (DEFAULT_SERVER, None));
        let empty = ConnectionArgs { server: Some(String::new()), token: Some(" ".into()) };
        assert_eq!(decide(&empty, &files[1..], Vec::new()).server, "http://data");
    }

    #[test]
    fn a_token_goes_to_no_other_server_than_its_files() {
        let files = [
            (PathBuf::from("/u"), file("http://user", "")),
            (PathBuf::from("/d"), file("http://data", "data-token")),
        ];
        let connection = decide(&ConnectionArgs::default(), &files, Vec::new());
        assert_eq!((connection.server.as_str(), connection.token), ("http://user", None));
        let alone = [(PathBuf::from("/u"), file("", "my-token"))];
        let connection = decide(&ConnectionArgs::default(), &alone, Vec::new());
        assert_eq!(connection.token.as_deref(), Some("my-token"));
    }

    #[test]
    fn the_folders_come_from_the_environment() {
        let paths = candidates(|name| (name == "HOME").then(|| "/h".into()));
        let expected = [
            "/h/.config/limpet/client.toml",
            "/var/lib/limpet/controller/client.toml",
            "/var/lib/limpet-controller/client.toml",
            "/h/.local/share/limpet-controller/client.toml",
        ];
        assert_eq!(paths, expected.map(PathBuf::from));
        let paths = candidates(|name| match name {
            "XDG_CONFIG_HOME" => Some("/x".into()),
            "LIMPET_DATA" => Some("/data".into()),
            _ => None,
        });
        let expected =
            ["/x/limpet/client.toml", "/data/controller/client.toml", "/data/client.toml"];
        assert_eq!(paths, expected.map(PathBuf::from));
    }

    #[test]
    fn a_file_that_is_not_toml_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        std::fs::write(&path, "server = [").unwrap();
        assert!(format!("{:#}", read(&path).unwrap_err()).contains("client.toml"));
        assert_eq!(read(&dir.path().join("absent")).unwrap(), None);
    }
}
