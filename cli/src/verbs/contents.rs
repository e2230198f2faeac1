//! `limpet secret create|ls|rm|inspect`, and the same of `limpet config`: what services name as
//! `external`. What is in them is never shown.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use limpet_compose::ContentKind;
use limpet_controller::api::types::ContentNameView;

use crate::client::Client;
use crate::command::Asks;
use crate::contents;
use crate::output::{self, Column, Format, ListArgs, age, bytes, column, wide};

/// Arguments of `limpet secret`.
#[derive(Debug, Args)]
#[command(after_help = "\
Services use it with `external: true` under `secrets:`. The controller keeps it sealed, every node gets it sealed to its own key,
and a container finds it under /run/secrets, in memory.

Examples:
  limpet secret create db-password password.txt
  openssl rand -hex 32 | limpet secret create db-password -
  limpet secret create --replace db-password -    who uses it gets it with the next apply")]
pub struct SecretArgs {
    #[command(subcommand)]
    pub(crate) verb: ContentVerb,
}

/// What is done with names of configs or secrets.
#[derive(Debug, Subcommand)]
pub(crate) enum ContentVerb {
    /// Keep a file under a name that services can use
    Create(Asks<CreateArgs>),
    /// List the names, and who uses them; what is in them is not shown
    #[command(visible_alias = "list")]
    Ls(Asks<LsArgs>),
    /// Remove names; applications that use them keep what they have
    #[command(visible_alias = "remove")]
    Rm(Asks<RmArgs>),
    /// Show all that is known of a name but its content
    Inspect(Asks<InspectArgs>),
}

/// Arguments of `create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The name
    #[arg(value_name = "NAME")]
    name: String,
    /// The file; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Take the place of the one that has this name
    #[arg(long)]
    replace: bool,
}

/// Arguments of `ls`.
#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    list: ListArgs,
}

/// Arguments of `rm`.
#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// The names
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Arguments of `inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The name
    #[arg(value_name = "NAME")]
    name: String,
    /// How to show it
    #[arg(short, long, value_enum, default_value = "yaml", value_name = "FORMAT")]
    output: Format,
}

/// Makes, shows and removes names.
///
/// # Errors
/// If the file cannot be read, the controller does not answer, or has no such name.
pub(crate) async fn run(kind: ContentKind, verb: &ContentVerb) -> anyhow::Result<()> {
    match verb {
        ContentVerb::Create(Asks { verb, connection }) => {
            create(kind, verb, &crate::client(connection)?).await
        }
        ContentVerb::Ls(Asks { verb, connection }) => {
            let items = crate::client(connection)?.contents(kind).await?.items;
            Ok(output::list(&verb.list, &columns(), &items)?)
        }
        ContentVerb::Rm(Asks { verb, connection }) => {
            let client = crate::client(connection)?;
            for name in &verb.names {
                client.forget_content(kind, name).await?;
                output::print(&format!("removed {name}\n"))?;
            }
            Ok(())
        }
        ContentVerb::Inspect(Asks { verb, connection }) => {
            let shown = crate::client(connection)?.content(kind, &verb.name).await?;
            Ok(output::object(verb.output, &shown)?)
        }
    }
}

async fn create(kind: ContentKind, args: &CreateArgs, client: &Client) -> anyhow::Result<()> {
    let content = if args.file == Path::new("-") {
        contents::read_all(std::io::stdin().lock(), "standard input")?
    } else {
        contents::read_file(&args.file)?
    };
    let bytes = content.expose().to_vec();
    let made = client.name_content(kind, &args.name, bytes, args.replace).await?;
    output::print(&format!("{kind} {} has {} bytes\n", args.name, made.bytes))?;
    Ok(())
}

fn columns() -> [Column<ContentNameView>; 5] {
    [
        column("NAME", |it, _| it.name.as_str().into()),
        column("SIZE", |it, _| bytes(it.bytes).into()),
        column("AGE", |it, now_ms| age(it.created_ms, now_ms).into()),
        column("USED BY", |it, _| users(it).into()),
        wide("ID", |it, _| it.id.as_str().into()),
    ]
}

fn users(it: &ContentNameView) -> String {
    if it.used_by.is_empty() { "-".to_owned() } else { it.used_by.join(", ") }
}
