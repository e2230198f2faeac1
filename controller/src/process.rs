//! The controller as a process: `limpet-controller` and `limpet controller` are this function.
//!
//! In: the arguments. Out: an exit code, and on standard error one sentence if it is not 0.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::filter::{LevelFilter, ParseError, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Config, ConfigError, ControllerArgs, LogFormat};
use crate::run::run;

/// It ended as it was told to.
pub const DONE: u8 = 0;
/// It failed: the message says why.
pub const FAILED: u8 = 1;
/// It was configured wrongly: the message says where.
pub const USAGE: u8 = 2;

/// Runs a controller until SIGINT or SIGTERM.
#[must_use]
pub fn main(args: ControllerArgs) -> ExitCode {
    match try_main(args) {
        Ok(()) => ExitCode::from(DONE),
        Err(error) => {
            let code = if error.is::<ConfigError>() { USAGE } else { FAILED };
            complain(&error);
            ExitCode::from(code)
        }
    }
}

/// One sentence with its causes.
fn complain(error: &anyhow::Error) {
    use std::io::Write as _;
    // There is nowhere else to say that standard error is gone.
    drop(writeln!(std::io::stderr(), "limpet-controller: {error:#}"));
}

fn try_main(args: ControllerArgs) -> anyhow::Result<()> {
    let config = args.resolve()?;
    start_log(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(until_told(config))
}

/// Lines on standard error.
fn start_log(config: &Config) -> Result<(), ConfigError> {
    let filter: Targets = config.log.parse().map_err(|error: ParseError| ConfigError::Value {
        option: "log",
        message: format!("{:?} is not a filter ({error}); write info or debug", config.log),
    })?;
    let log =
        tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(std::io::stderr);
    let color = std::io::IsTerminal::is_terminal(&std::io::stderr());
    // Fails only if the program has a log already, and then that one is used.
    drop(match config.log_format {
        LogFormat::Text => log.with_ansi(color).finish().with(filter).try_init(),
        LogFormat::Json => log.json().finish().with(filter).try_init(),
    });
    Ok(())
}

async fn until_told(config: Config) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (ready, _) = oneshot::channel();
    let mut running = std::pin::pin!(run(config, ready, shutdown.clone()));
    tokio::select! {
        ended = &mut running => return Ok(ended?),
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("the controller ends");
    shutdown.cancel();
    Ok(running.await?)
}
