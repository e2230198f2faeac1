//! The resolved project: what `load` gives, and what is done to the whole of it.
//!
//! [`finish`] comes after all files are merged: profiles, files of variables, references between
//! resources ([`references`]), the report on keys without effect ([`report`]), the application
//! ([`crate::lower`]), and last the names and defaults that only the printed form shows.

mod environment;
mod printed;
mod references;
mod report;

use limpet_protocol::application::Application;
use limpet_protocol::limits::MAX_SERVICES_PER_APPLICATION;

use crate::diagnostic::{Problems, in_order};
use crate::interpolate::Variables;
use crate::loader::Loader;
use crate::node::{Node, Value};
use crate::{ContentSource, Diagnostic, lower};

/// A Compose project: every file read, interpolated, merged and in the long syntax.
#[derive(Debug, Clone)]
pub struct Project {
    name: String,
    document: serde_json::Value,
    application: Result<Application, Vec<Diagnostic>>,
    contents: Vec<ContentSource>,
    /// What has no effect or may surprise; none of it keeps the project from running.
    pub warnings: Vec<Diagnostic>,
}

impl Project {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole in the long syntax, as `docker compose config --format json` shows it: `$` is `$$`.
    #[must_use]
    pub fn to_value(&self) -> serde_json::Value {
        self.document.clone()
    }

    /// The whole in the long syntax, as `docker compose config` shows it.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        printed::yaml(&self.document)
    }

    /// The application that the controller is given.
    ///
    /// # Errors
    /// All keys and values that Limpet cannot do without misbehaving, each with its place.
    pub fn to_application(&self) -> Result<Application, Vec<Diagnostic>> {
        self.application.clone()
    }

    /// The configs and secrets that services use. What is in them is not in the application: its
    /// mounts name no content until the controller has it.
    #[must_use]
    pub fn contents(&self) -> &[ContentSource] {
        &self.contents
    }
}

/// What surrounds the tree.
pub(crate) struct Surroundings<'a> {
    pub(crate) name: String,
    pub(crate) profiles: &'a [String],
    pub(crate) variables: Variables,
}

/// Makes a project of the merged tree.
pub(crate) fn finish(
    mut loader: Loader,
    mut tree: Node,
    surroundings: &Surroundings,
) -> Result<Project, Vec<Diagnostic>> {
    choose_profiles(&mut tree, surroundings);
    if loader.problems.errors.is_empty() && services(&tree).next().is_none() {
        let advice = "name at least one service under `services:`, and check the profiles";
        loader.problems.push(Diagnostic::error("the project has no service").advice(advice));
    }
    let count = services(&tree).count();
    if count > MAX_SERVICES_PER_APPLICATION {
        let message = format!(
            "{count} services, where an application may have {MAX_SERVICES_PER_APPLICATION}"
        );
        loader
            .problems
            .push(Diagnostic::error(message).advice("split it into several applications"));
        return Err(loader.problems.into_list());
    }
    environment::read(&mut loader, &mut tree, &surroundings.variables);
    let mut problems = std::mem::take(&mut loader.problems);
    if problems.errors.is_empty() {
        references::check(&tree, &mut problems);
    }
    if !problems.errors.is_empty() {
        return Err(problems.into_list());
    }
    let mut refusals = Problems::default();
    report::keys(&tree, &mut refusals);
    let mut application = lower::application(&tree, &surroundings.name, &mut refusals);
    lower::schedules(&tree, loader.files, &mut application, &mut refusals);
    lower::windows(&tree, loader.files, &mut application, &mut refusals);
    let contents = lower::sources(&tree, &surroundings.variables, &mut refusals);
    let Problems { mut errors, warnings } = refusals;
    warnings.into_iter().for_each(|warning| problems.push(warning));
    in_order(&mut errors);
    in_order(&mut problems.warnings);
    printed::defaults(&mut tree, &surroundings.name);
    Ok(Project {
        name: surroundings.name.clone(),
        document: printed::document(&tree),
        application: if errors.is_empty() { Ok(application) } else { Err(errors) },
        contents,
        warnings: problems.warnings,
    })
}

/// The services of a tree by name.
pub(crate) fn services(tree: &Node) -> impl Iterator<Item = (&str, &Node)> {
    let services = tree.get("services").and_then(Node::as_mapping);
    services.into_iter().flatten().map(|(name, entry)| (name.as_str(), &entry.node))
}

/// Takes away the services whose profiles are all off.
fn choose_profiles(tree: &mut Node, surroundings: &Surroundings) {
    let named = surroundings.variables.get("COMPOSE_PROFILES").map(String::as_str);
    let named = named.unwrap_or_default().split(',').map(str::trim);
    let on: Vec<&str> = match surroundings.profiles {
        [] => named.filter(|name| !name.is_empty()).collect(),
        profiles => profiles.iter().map(String::as_str).collect(),
    };
    let Some(services) = tree.get_mut("services").and_then(Node::as_mapping_mut) else { return };
    services.retain(|_, entry| {
        let Some(Value::Sequence(wanted)) = entry.node.get("profiles").map(|node| &node.value)
        else {
            return true;
        };
        let is_on =
            |node: &Node| on.contains(&"*") || on.iter().any(|on| node.scalar() == Some(on));
        wanted.is_empty() || wanted.iter().any(is_on)
    });
}
