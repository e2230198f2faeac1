//! The resolved project: what `load` gives.

use limpet_protocol::application::Application;

use crate::Diagnostic;

/// A Compose project: every file read, interpolated, merged and in the long syntax.
#[derive(Debug, Clone)]
pub struct Project {
    name: String,
    document: serde_json::Value,
    application: Result<Application, Vec<Diagnostic>>,
    /// What has no effect or may surprise; none of it keeps the project from running.
    pub warnings: Vec<Diagnostic>,
}

impl Project {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole in the long syntax, as `docker compose config --format json` shows it.
    #[must_use]
    pub fn to_value(&self) -> serde_json::Value {
        self.document.clone()
    }

    /// The whole in the long syntax, as `docker compose config` shows it.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        serde_saphyr::to_string(&self.document).unwrap_or_default()
    }

    /// The application that the controller is given.
    ///
    /// # Errors
    /// All keys and values that Limpet cannot do without misbehaving, each with its place.
    pub fn to_application(&self) -> Result<Application, Vec<Diagnostic>> {
        self.application.clone()
    }
}
