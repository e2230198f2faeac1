//! The Compose files that a verb is given, read and resolved, with their diagnostics shown.
//!
//! In come `-f` and its kin; out comes a project. Diagnostics go to standard error, for people as
//! miette shows them with the line of the file, in a pipe one line each.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use limpet_compose::{Diagnostic, Files, LoadOptions, Project, RealFiles, Severity, load};

/// Where the Compose file is and how it is read: the flags of `docker compose`.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Compose file")]
pub struct ComposeArgs {
    /// Compose file; given several times, later ones go over earlier ones; - is standard input
    /// [default: compose.yaml or docker-compose.yml here or in a folder above]
    #[arg(short, long = "file", value_name = "FILE", env = "COMPOSE_FILE", value_delimiter = ':')]
    pub files: Vec<PathBuf>,
    /// Name of the application [default: `name:` in the file, else the folder's name]
    #[arg(short, long, value_name = "NAME")]
    pub project_name: Option<String>,
    /// Folder in which relative paths begin [default: that of the first file]
    #[arg(long, value_name = "DIR")]
    pub project_directory: Option<PathBuf>,
    /// Turn a profile on; may be given several times, '*' is all of them
    #[arg(
        long = "profile",
        value_name = "PROFILE",
        env = "COMPOSE_PROFILES",
        value_delimiter = ','
    )]
    pub profiles: Vec<String>,
    /// File with variables for ${...} [default: .env beside the Compose file]
    #[arg(long = "env-file", value_name = "FILE")]
    pub env_files: Vec<PathBuf>,
}

/// Most bytes of a Compose file from standard input: as many as of any other.
const MAX_STDIN_BYTES: u64 = limpet_compose::limits::MAX_FILE_BYTES;
/// What standard input is called in diagnostics.
const STDIN: &str = "stdin";

/// Something is wrong with the file; it has been shown.
#[derive(Debug, thiserror::Error)]
#[error("{}", many(*.errors, "error"))]
pub struct NotAccepted {
    /// How many errors were shown.
    pub errors: usize,
}

/// `1 error`, `2 errors`.
#[must_use]
pub fn many(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

impl ComposeArgs {
    /// Reads the files; what is said about them goes to standard error, warnings too.
    ///
    /// # Errors
    /// [`NotAccepted`] if there are errors.
    pub fn load(&self) -> anyhow::Result<Project> {
        let environment: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let (files, source) = self.source()?;
        let options = LoadOptions {
            files,
            project_directory: self.project_directory.clone(),
            project_name: self.project_name.clone(),
            profiles: self.profiles.clone(),
            env_files: self.env_files.clone(),
            environment,
        };
        let project = accept(load(&options, source.as_ref()))?;
        show(&project.warnings)?;
        Ok(project)
    }

    /// The files, and what reads them. Standard input becomes a file beside the others.
    fn source(&self) -> anyhow::Result<(Vec<PathBuf>, Box<dyn Files>)> {
        if !self.files.iter().any(|file| file == Path::new("-")) {
            return Ok((self.files.clone(), Box::new(RealFiles)));
        }
        let mut text = String::new();
        let mut bounded = std::io::stdin().lock().take(MAX_STDIN_BYTES);
        bounded.read_to_string(&mut text).context("read the Compose file from standard input")?;
        let here = std::env::current_dir().context("find the current folder")?;
        let stdin = here.join(STDIN);
        let names = self.files.iter().map(|file| match file == Path::new("-") {
            true => stdin.clone(),
            false => file.clone(),
        });
        let files = names.collect();
        Ok((files, Box::new(WithStdin { path: stdin, text, disk: RealFiles })))
    }
}

/// Passes a result on, or shows what is wrong.
///
/// # Errors
/// [`NotAccepted`] if there are errors.
pub fn accept<T>(result: Result<T, Vec<Diagnostic>>) -> anyhow::Result<T> {
    result.or_else(|diagnostics| {
        show(&diagnostics)?;
        let errors = diagnostics.iter().filter(|d| d.severity() == Severity::Error).count();
        Err(NotAccepted { errors }.into())
    })
}

fn show(diagnostics: &[Diagnostic]) -> std::io::Result<()> {
    let stderr = std::io::stderr();
    let people = stderr.is_terminal();
    let handler = miette::GraphicalReportHandler::new();
    let mut text = String::new();
    for diagnostic in diagnostics {
        if !people || handler.render_report(&mut text, diagnostic).is_err() {
            text += &diagnostic.one_line();
            text.push('\n');
        }
    }
    stderr.lock().write_all(text.as_bytes())
}

/// The file system with standard input laid over one path.
struct WithStdin {
    path: PathBuf,
    text: String,
    disk: RealFiles,
}

impl Files for WithStdin {
    fn read(&self, path: &Path) -> std::io::Result<String> {
        if path == self.path { Ok(self.text.clone()) } else { self.disk.read(path) }
    }

    fn read_bytes(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        self.disk.read_bytes(path)
    }

    fn current_directory(&self) -> std::io::Result<PathBuf> {
        self.disk.current_directory()
    }
}
