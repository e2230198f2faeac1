//! `limpet token create|ls|rm`: what lets nodes join and people in.

use clap::{Args, Subcommand};
use limpet_controller::api::types::{TokenRequest, TokenView};
use limpet_protocol::id::ApplicationName;

use crate::client::Client;
use crate::duration;
use crate::output::{self, Column, Format, ListArgs, age, column};

/// Arguments of `limpet token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a token: for a node to join, with --admin for a person, with --metrics for a program that measures
    #[command(after_help = "\
The token is shown this once; the controller keeps only its hash.

Examples:
  limpet token create --ttl 1h                     for one machine that joins now
  limpet token create --admin --description laptop  for LIMPET_TOKEN on another machine
  limpet token create --metrics shop               publishes figures that services of shop follow:
      mosquitto_pub -i metrics-1 -u metrics -P TOKEN -t limpet/v1/m/shop/web/jobs_open -m 42
  ssh pump-7 sudo limpet agent --join-token \"$(limpet token create)\" ...")]
    Create {
        /// For people and programs: it opens the API, all of it
        #[arg(long)]
        admin: bool,
        /// For programs that measure: it lets them publish the figures of this application by MQTT
        #[arg(long, value_name = "APPLICATION", conflicts_with = "admin")]
        metrics: Option<ApplicationName>,
        /// How long it lives, such as 30m, 12h or 7d; without it, without end
        #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
        ttl: Option<std::time::Duration>,
        /// A note that `limpet token ls` shows
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        description: String,
        /// `json` and `yaml` show all of it, the others the token alone
        #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
        output: Format,
    },
    /// List the tokens; the tokens themselves are not shown
    #[command(visible_alias = "list")]
    Ls {
        #[command(flatten)]
        list: ListArgs,
    },
    /// End a token; nodes that joined with it stay
    #[command(visible_alias = "remove")]
    Rm {
        /// As `limpet token ls` shows them
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

/// Makes, shows and ends tokens.
///
/// # Errors
/// If the controller does not answer, or has no such token.
pub async fn run(args: &TokenArgs, client: &Client) -> anyhow::Result<()> {
    match &args.verb {
        Verb::Create { admin, metrics, ttl, description, output } => {
            let request = TokenRequest {
                purpose: match (admin, metrics) {
                    (true, _) => "admin".into(),
                    (false, Some(_)) => "metrics".into(),
                    (false, None) => "join".into(),
                },
                application: metrics.as_ref().map(ToString::to_string),
                description: description.clone(),
                ttl_seconds: ttl.map(|ttl| ttl.as_secs().max(1)),
            };
            let made = client.create_token(&request).await?;
            match output {
                Format::Json | Format::Yaml => output::object(*output, &made)?,
                Format::Table | Format::Wide => {
                    output::print(&(made.token.unwrap_or_default() + "\n"))?;
                }
            }
        }
        Verb::Ls { list } => output::list(list, &columns(), &client.tokens().await?.items)?,
        Verb::Rm { ids } => {
            for id in ids {
                client.remove_token(id).await?;
                output::print(&format!("removed {id}\n"))?;
            }
        }
    }
    Ok(())
}

fn columns() -> [Column<TokenView>; 5] {
    [
        column("ID", |token, _| token.id.as_str().into()),
        column("PURPOSE", |token, _| match &token.application {
            Some(application) => format!("{} of {application}", token.purpose).into(),
            None => token.purpose.as_str().into(),
        }),
        column("AGE", |token, now_ms| age(token.created_ms, now_ms).into()),
        column("ENDS", |token, now_ms| ends(token, now_ms).into()),
        column("DESCRIPTION", |token, _| token.description.as_str().into()),
    ]
}

fn ends(token: &TokenView, now_ms: u64) -> String {
    match token.expires_ms {
        None => "never".into(),
        Some(at_ms) if at_ms <= now_ms => "ended".into(),
        Some(at_ms) => format!("in {}", age(now_ms, at_ms)),
    }
}
