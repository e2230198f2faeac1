//! The way from file names to a project.
//!
//! [`load`] finds the files, the variables and the project's name; [`Loader`] reads each file,
//! prepares its documents (variables, check, long syntax, paths), follows `include` and `extends`, and
//! lays the files over each other. [`crate::project`] does what is done to the whole.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::diagnostic::Problems;
use crate::extends::Origin;
use crate::interpolate::{Interpolation, Variables, interpolate};
use crate::limits::{MAX_FILE_READS, MAX_INTERPOLATED_BYTES};
use crate::merge::{Tags, merge};
use crate::node::{Node, Place, Source};
use crate::{
    Diagnostic, Files, Project, canonical, dotenv, extends, include, paths, project, yaml,
};

/// What to load, and in which surroundings.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// The files, later ones over earlier ones. Empty: those of `COMPOSE_FILE`, or `compose.yaml`,
    /// `compose.yml`, `docker-compose.yaml` or `docker-compose.yml` in the project directory or a
    /// parent of it, with the override file beside it.
    pub files: Vec<PathBuf>,
    /// Where relative paths of the files begin; by default the folder of the first file.
    pub project_directory: Option<PathBuf>,
    /// The project's name; by default `COMPOSE_PROJECT_NAME`, `name:` or the folder's name.
    pub project_name: Option<String>,
    /// Profiles that are on; `*` is all. By default those of `COMPOSE_PROFILES`.
    pub profiles: Vec<String>,
    /// Files of variables; by default `.env` in the project directory, if it is there.
    pub env_files: Vec<PathBuf>,
    /// The variables of the caller; they win over those of the files.
    pub environment: BTreeMap<String, String>,
}

const NAMES: [&str; 4] =
    ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];
const OVERRIDES: [&str; 4] = [
    "compose.override.yaml",
    "compose.override.yml",
    "docker-compose.override.yaml",
    "docker-compose.override.yml",
];

/// Loads a project.
///
/// # Errors
/// Everything that is wrong with it, as far as it could be read; the warnings come after the errors.
pub fn load(options: &LoadOptions, files: &dyn Files) -> Result<Project, Vec<Diagnostic>> {
    let here = files.current_directory().map_err(|error| {
        vec![Diagnostic::error(format!("there is no current directory: {error}"))]
    })?;
    let mut loader = Loader {
        files,
        here: here.clone(),
        problems: Problems::default(),
        including: Vec::new(),
        reads: 0,
        interpolated: MAX_INTERPOLATED_BYTES,
    };
    let absolute = |path: &PathBuf| paths::tidy(&here.join(path));
    let paths = match options.files.as_slice() {
        [] => loader.find(options, &here).map_err(|diagnostic| vec![diagnostic])?,
        files => files.iter().map(absolute).collect(),
    };
    let directory = match (&options.project_directory, paths.first().and_then(|path| path.parent()))
    {
        (Some(directory), _) => absolute(directory),
        (None, Some(parent)) => parent.to_owned(),
        (None, None) => here.clone(),
    };
    let env_files: Vec<PathBuf> = options.env_files.iter().map(absolute).collect();
    let mut variables = loader.variables(&options.environment, &directory, &env_files);
    let name = loader.name(options, &paths, &directory, &variables);
    variables.insert("COMPOSE_PROJECT_NAME".to_owned(), name.clone());
    let tree = loader.files(&paths, &directory, &variables, None);
    let surroundings = project::Surroundings { name, profiles: &options.profiles, variables };
    project::finish(loader, tree, &surroundings)
}

/// Reads files and collects what is wrong with them.
pub(crate) struct Loader<'a> {
    pub(crate) files: &'a dyn Files,
    /// Files below it are named from here.
    here: PathBuf,
    pub(crate) problems: Problems,
    /// The files that are being read, each included by the one before.
    pub(crate) including: Vec<PathBuf>,
    reads: usize,
    /// How many bytes variables may still become.
    interpolated: usize,
}

impl Loader<'_> {
    fn find(&mut self, options: &LoadOptions, here: &Path) -> Result<Vec<PathBuf>, Diagnostic> {
        let start = match &options.project_directory {
            Some(directory) => paths::tidy(&here.join(directory)),
            None => here.to_owned(),
        };
        if let Some(named) = options.environment.get("COMPOSE_FILE").filter(|text| !text.is_empty())
        {
            let separator = options.environment.get("COMPOSE_PATH_SEPARATOR");
            let separator = separator.filter(|text| !text.is_empty()).map_or(":", String::as_str);
            let path = |text: &str| paths::tidy(&here.join(text));
            return Ok(named.split(separator).filter(|text| !text.is_empty()).map(path).collect());
        }
        for folder in start.ancestors() {
            let is_there = |name: &&str| match self.files.read(&folder.join(name)) {
                Ok(_) => true,
                Err(error) => error.kind() != ErrorKind::NotFound,
            };
            if let Some(name) = NAMES.iter().find(|name| is_there(name)) {
                let over = OVERRIDES.iter().find(|name| is_there(name));
                return Ok([name].into_iter().chain(over).map(|name| folder.join(name)).collect());
            }
        }
        let message = format!("no Compose file in {} or a folder above it", start.display());
        Err(Diagnostic::error(message)
            .advice(format!("write {} there, or name a file with `-f`", NAMES[0])))
    }

    /// The text of a file, or what is wrong with it.
    pub(crate) fn source(&mut self, path: &Path) -> Result<std::sync::Arc<Source>, std::io::Error> {
        self.reads += 1;
        if self.reads > MAX_FILE_READS {
            let message = format!("this project reads more than {MAX_FILE_READS} files");
            return Err(std::io::Error::other(message));
        }
        let text = self.files.read(path)?;
        let name = path.strip_prefix(&self.here).unwrap_or(path);
        Ok(Source::new(name.display().to_string(), text))
    }

    /// The documents of a Compose file; `wanted_at` is where it is asked for.
    pub(crate) fn documents(&mut self, path: &Path, wanted_at: Option<&Place>) -> Vec<Node> {
        match self.source(path) {
            Ok(source) => match yaml::parse(&source) {
                Ok(documents) => return documents,
                Err(diagnostic) => self.problems.push(diagnostic),
            },
            Err(error) => self.unreadable(path, &error, wanted_at),
        }
        Vec::new()
    }

    /// Says that a file cannot be read.
    pub(crate) fn unreadable(&mut self, path: &Path, error: &std::io::Error, at: Option<&Place>) {
        let message = match error.kind() {
            ErrorKind::NotFound => format!("there is no file {}", path.display()),
            _ => format!("cannot read {}: {error}", path.display()),
        };
        let diagnostic = Diagnostic::error(message);
        self.problems.push(match at {
            Some(place) => diagnostic.at(place),
            None => diagnostic,
        });
    }

    /// Variables, check, long syntax and paths of one document.
    pub(crate) fn prepare(&mut self, document: &mut Node, base: &Path, variables: &Variables) {
        let mut interpolation = Interpolation {
            variables,
            budget: &mut self.interpolated,
            problems: &mut self.problems,
        };
        interpolation.tree(document, "");
        canonical::document(document, &mut self.problems);
        paths::document(document, base, variables);
    }

    /// The variables of a project: the caller's over those of its files.
    pub(crate) fn variables(
        &mut self,
        environment: &Variables,
        directory: &Path,
        env_files: &[PathBuf],
    ) -> Variables {
        let default = [directory.join(".env")];
        let (files, needed) =
            if env_files.is_empty() { (&default[..], false) } else { (env_files, true) };
        let mut found = Variables::new();
        for path in files {
            match self.source(path) {
                Ok(source) => match dotenv::parse(&source, environment, false) {
                    Ok(variables) => found.extend(variables),
                    Err(diagnostic) => self.problems.push(diagnostic),
                },
                Err(error) if !needed && error.kind() != ErrorKind::Other => {}
                Err(error) => self.unreadable(path, &error, None),
            }
        }
        found.extend(environment.clone());
        found
    }

    /// Files laid over each other, with what they include and extend.
    pub(crate) fn files(
        &mut self,
        paths: &[PathBuf],
        directory: &Path,
        variables: &Variables,
        wanted_at: Option<&Place>,
    ) -> Node {
        let nothing = Source::new(String::new(), String::new());
        let mut whole = Node::empty_mapping(&Place { source: nothing, start: 0, end: 0 });
        for path in paths {
            self.including.push(path.clone());
            for mut document in self.documents(path, wanted_at) {
                if document.is_null() {
                    continue;
                }
                self.prepare(&mut document, directory, variables);
                let earlier = whole.get("services").cloned();
                let origin =
                    Origin { file: path, base: directory, variables, earlier: earlier.as_ref() };
                include::apply(self, &mut document, &origin);
                extends::apply(self, &mut document, &origin);
                whole = merge(whole, document, Tags::Drop);
            }
            self.including.pop();
        }
        whole
    }

    fn name(
        &mut self,
        options: &LoadOptions,
        paths: &[PathBuf],
        directory: &Path,
        variables: &Variables,
    ) -> String {
        let named = variables.get("COMPOSE_PROJECT_NAME").filter(|name| !name.is_empty());
        let given = options.project_name.as_ref().or(named).cloned();
        if let Some(name) = given {
            if let Err(error) = limpet_protocol::id::ApplicationName::new(&name) {
                let message = format!("{name:?} is no name for a project: {error}");
                self.problems.push(Diagnostic::error(message));
            }
            return name;
        }
        for path in paths.iter().rev() {
            // Read once more later: what is wrong with the file is said then.
            let documents = self.source(path).ok().and_then(|source| yaml::parse(&source).ok());
            for document in documents.unwrap_or_default().iter().rev() {
                let Some(node) = document.get("name") else { continue };
                let text = node.scalar().unwrap_or_default();
                let Ok(name) = interpolate(text, variables).text else { continue };
                if let Err(error) = limpet_protocol::id::ApplicationName::new(&name) {
                    let message = format!("{name:?} is no name for a project: {error}");
                    let advice = limpet_protocol::id::ApplicationName::RULE;
                    self.problems.push(
                        Diagnostic::error(message).at(&node.place).key("name").advice(advice),
                    );
                }
                return name;
            }
        }
        let folder = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        normalised(&folder).unwrap_or_else(|| "default".to_owned())
    }
}

/// The nearest legal project name to a folder's name, as Compose makes it.
fn normalised(folder: &str) -> Option<String> {
    let legal = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(*c);
    let name: String = folder.to_lowercase().chars().filter(legal).collect();
    let name = name.trim_start_matches(['-', '_']);
    let name = name.get(..limpet_protocol::id::ApplicationName::MAX).unwrap_or(name);
    (!name.is_empty()).then(|| name.to_owned())
}
