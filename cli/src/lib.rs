//! The `limpet` command as a library.
//!
//! [`main`] takes the arguments of the process and gives its exit code. `command` is the command
//! line, `verbs` has one file a verb; all that ask a controller go through `client`, all that show
//! lists through `output`.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

pub mod client;
pub mod command;
pub mod compose_files;
pub mod connection;
pub mod contents;
pub mod duration;
pub mod exit;
pub mod instant;
pub mod layout_folder;
pub mod output;
pub mod progress;
pub mod targets;
pub mod terminal;
pub mod tree;
pub mod verbs;

use client::Client;
use command::{Cli, Verb};
use connection::ConnectionArgs;
use exit::Code;
use limpet_compose::ContentKind;

/// Runs the command with the arguments of the process, the first of them its name.
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    // The keeper has one thread for its whole life, so it comes before everything that starts any.
    if args.get(1).is_some_and(|word| word == limpet_agent::keeper::KEEPER_ARGUMENT) {
        return limpet_agent::keeper::keeper_main(args.into_iter().skip(2));
    }
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { Code::Usage } else { Code::Done };
            // Whoever closed the stream does not want to read it.
            drop(error.print());
            return code.into();
        }
    };
    match cli.verb {
        Verb::Up(args) => verbs::up::run(&args),
        Verb::Controller(args) => verbs::controller::run(args),
        Verb::Agent(args) => verbs::agent::run(&args),
        Verb::Flash(args) => tell(verbs::flash::run(&args)),
        Verb::Exec(asks) => tell_exec(exec(&asks)),
        verb => tell(run(verb)),
    }
}

/// Says what went wrong, in as many lines as there are causes, and turns it into an exit code.
fn tell(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return Code::Done.into() };
    let closed = |cause: &(dyn std::error::Error + 'static)| {
        let io = cause.downcast_ref::<std::io::Error>();
        io.is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(closed) {
        // The reader has seen enough (`limpet ps | head -1`).
        return Code::Done.into();
    }
    complain(&format!("{error:#}"));
    Code::of(&error).into()
}

/// The same for a command in a container: every code but one is the command's own.
fn tell_exec(result: anyhow::Result<u8>) -> ExitCode {
    let code = result.unwrap_or_else(|error| {
        complain(&format!("{error:#}"));
        verbs::exec::OWN_FAILURE
    });
    ExitCode::from(code)
}

#[tokio::main(flavor = "current_thread")]
async fn exec(asks: &command::Asks<verbs::exec::ExecArgs>) -> anyhow::Result<u8> {
    verbs::exec::run(&asks.verb, &client(&asks.connection)?).await
}

/// Writes one message to standard error, under the command's name.
pub(crate) fn complain(message: &str) {
    // Without a standard error there is nobody to tell.
    drop(writeln!(std::io::stderr(), "limpet: {message}"));
}

#[tokio::main(flavor = "current_thread")]
async fn run(verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Up(_) | Verb::Controller(_) | Verb::Agent(_) | Verb::Exec(_) | Verb::Flash(_) => {
            Ok(())
        }
        Verb::Cp(asks) => verbs::cp::run(&asks.verb, &client(&asks.connection)?).await,
        Verb::Top(asks) => verbs::top::run(&asks.verb, &client(&asks.connection)?).await,
        Verb::Config(args) => verbs::config::run(&args).await,
        Verb::Secret(args) => verbs::contents::run(ContentKind::Secret, &args.verb).await,
        Verb::Completion(args) => verbs::completion::run(&args),
        Verb::Apply(asks) => verbs::apply::run(&asks.verb, &client(&asks.connection)?).await,
        Verb::Plan(asks) => verbs::plan::run(&asks.verb, &client(&asks.connection)?).await,
        Verb::Ps(asks) => verbs::ps::run(&asks.verb, &client(&asks.connection)?).await,
        Verb::Logs(asks) => verbs::logs::run(&asks.verb, &client(&asks.connection)?).await,
        Verb::Services(asks) => verbs::services::run(&asks.verb, &client(&asks.connection)?).await,
        Verb::Apps(asks) => verbs::apps::run(&asks.verb, &client(&asks.connection)?).await,
        Verb::Events(asks) => verbs::events::run(&asks.verb, &client(&asks.connection)?).await,
        Verb::Explain(asks) => verbs::explain::run(&asks.verb, &client(&asks.connection)?).await,
        Verb::Inspect(asks) => verbs::inspect::run(&asks.verb, &client(&asks.connection)?).await,
        Verb::Wait(asks) => verbs::wait::run(&asks.verb, &client(&asks.connection)?).await,
        Verb::Scale(asks) => verbs::scale::run(&asks.verb, &client(&asks.connection)?).await,
        Verb::Stop(asks) => verbs::stop::run(&asks.verb, &client(&asks.connection)?).await,
        Verb::Start(asks) => verbs::start::run(&asks.verb, &client(&asks.connection)?).await,
        Verb::Restart(asks) => verbs::restart::run(&asks.verb, &client(&asks.connection)?).await,
        Verb::Rollout(asks) => verbs::rollout::run(&asks.verb, &client(&asks.connection)?).await,
        Verb::Rm(asks) => verbs::rm::run(&asks.verb, &client(&asks.connection)?).await,
        Verb::Node(asks) => verbs::node::run(&asks.verb, &client(&asks.connection)?).await,
        Verb::Image(asks) => verbs::image::run(&asks.verb, &client(&asks.connection)?).await,
        Verb::Token(asks) => verbs::token::run(&asks.verb, &client(&asks.connection)?).await,
        Verb::Version(asks) if !verbs::version::needs_controller(&asks.verb) => {
            verbs::version::run(&asks.verb, None).await
        }
        Verb::Version(asks) => {
            verbs::version::run(&asks.verb, Some(&client(&asks.connection)?)).await
        }
    }
}

pub(crate) fn client(args: &ConnectionArgs) -> anyhow::Result<Client> {
    Ok(Client::new(args.resolve()?)?)
}
