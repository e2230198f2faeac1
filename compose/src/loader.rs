//! The way from file names to a project.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::{Diagnostic, Files, Project};

/// What to load, and in which surroundings.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// The files, later ones over earlier ones. Empty: `compose.yaml`, `compose.yml`,
    /// `docker-compose.yaml` or `docker-compose.yml` in the project directory or a parent of it.
    pub files: Vec<PathBuf>,
    /// Where relative paths of the files begin; by default the folder of the first file.
    pub project_directory: Option<PathBuf>,
    /// The project's name; by default `COMPOSE_PROJECT_NAME`, `name:` or the folder's name.
    pub project_name: Option<String>,
    /// Profiles that are on; `*` is all.
    pub profiles: Vec<String>,
    /// Files of variables; by default `.env` in the project directory, if it is there.
    pub env_files: Vec<PathBuf>,
    /// The variables of the caller; they win over those of the files.
    pub environment: BTreeMap<String, String>,
}

/// Loads a project.
///
/// # Errors
/// Everything that is wrong with it, as far as it could be read.
pub fn load(_options: &LoadOptions, _files: &dyn Files) -> Result<Project, Vec<Diagnostic>> {
    Err(vec![Diagnostic::error("not yet")])
}
