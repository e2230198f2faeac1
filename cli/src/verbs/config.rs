//! `limpet config`: the Compose file as Limpet reads it, which needs no controller; and with a word
//! more, the configs that the controller keeps under names (`contents`).

use clap::{Args, ValueEnum};
use limpet_compose::{ContentKind, Project};
use serde_json::Value;

use crate::compose_files::ComposeArgs;
use crate::output;
use crate::verbs::contents::{self, ContentVerb};

/// Arguments of `limpet config`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
#[command(after_help = "\
Everything is interpolated, merged, extended and included, and in the long syntax. No controller is needed.

Examples:
  limpet config                                the compose.yaml here
  limpet config -f base.yaml -f site.yaml -q   does it hold? exit code 0 or 1
  limpet config create nginx.conf ./nginx.conf   for services that name it as `external`
  limpet config --images | xargs -n1 skopeo inspect")]
pub struct ConfigArgs {
    #[command(subcommand)]
    names: Option<ContentVerb>,
    #[command(flatten)]
    compose: ComposeArgs,
    /// How to show it
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: DocumentFormat,
    /// Show only the names of the services
    #[arg(long, conflicts_with = "images")]
    services: bool,
    /// Show only the names of the images
    #[arg(long)]
    images: bool,
    /// Show nothing; only say what is wrong
    #[arg(short, long, conflicts_with_all = ["services", "images"])]
    quiet: bool,
}

/// The forms of the document.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum DocumentFormat {
    /// As Compose files are written.
    #[default]
    Yaml,
    /// For programs.
    Json,
}

/// Shows the resolved file.
///
/// # Errors
/// If the file has errors (they have been shown), or the controller does not answer.
pub async fn run(args: &ConfigArgs) -> anyhow::Result<()> {
    if let Some(verb) = &args.names {
        return contents::run(ContentKind::Config, verb).await;
    }
    let project = args.compose.load()?;
    if args.quiet {
        return Ok(());
    }
    output::print(&text(args, &project)?)?;
    Ok(())
}

fn text(args: &ConfigArgs, project: &Project) -> anyhow::Result<String> {
    if args.services || args.images {
        let document = project.to_value();
        let names = if args.services { services(&document) } else { images(&document) };
        return Ok(names.iter().map(|name| format!("{name}\n")).collect());
    }
    Ok(match args.format {
        DocumentFormat::Yaml => project.to_yaml(),
        DocumentFormat::Json => serde_json::to_string_pretty(&project.to_value())? + "\n",
    })
}

fn services(document: &Value) -> Vec<&str> {
    let services = document.get("services").and_then(Value::as_object);
    services.into_iter().flatten().map(|(name, _)| name.as_str()).collect()
}

fn images(document: &Value) -> Vec<&str> {
    let services = document.get("services").and_then(Value::as_object);
    let named = services.into_iter().flatten();
    let mut images: Vec<&str> =
        named.filter_map(|(_, service)| service.get("image")?.as_str()).collect();
    images.sort_unstable();
    images.dedup();
    images
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_listed_once() {
        let document = serde_json::json!({"services": {
            "b": {"image": "x"}, "a": {"image": "x"}, "c": {"build": "."}, "d": {"image": "w"},
        }});
        assert_eq!(images(&document), ["w", "x"]);
        assert_eq!(services(&document).len(), 4);
        assert!(images(&serde_json::json!({})).is_empty());
    }
}
