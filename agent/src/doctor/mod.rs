//! `limpet-agent doctor`: what this machine lacks to be a good node, what each thing costs, and how it is mended.
//!
//! In: the kernel's files and the agent's configuration, if there is one. Out: findings for people, on standard
//! output; the agent itself runs with all of them, as far as it can. [`look`] gathers, [`findings`] judges.

mod findings;
mod look;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::config::{AgentArgs, Config, DEFAULT_DATA};

pub use findings::{Finding, Machine};

/// Arguments of `limpet-agent doctor`.
#[derive(Debug, Default, clap::Args)]
pub struct DoctorArgs {
    /// Folder where the agent keeps its state [default: that of --config, else /var/lib/limpet]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The agent's configuration file, which is checked as well
    #[arg(long, env = "LIMPET_AGENT_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What this machine lacks beside what the keeper says of itself, each in a sentence `WHAT: COSTS; MEND`.
#[must_use]
pub fn conditions(data: &Path) -> Vec<String> {
    let machine = Machine { lacks: Vec::new(), ..look::machine(data) };
    let sentence = |it: Finding| format!("{}: {}; {}", it.what, it.costs, it.mend);
    findings::findings(&machine).into_iter().map(sentence).collect()
}

/// Something was found.
const FOUND: u8 = 1;

/// Looks at this machine and says what it lacks. Exit code 0: nothing; 1: something.
#[must_use]
pub fn main_with(args: &DoctorArgs) -> ExitCode {
    let config = args.config.clone().map(|config| {
        Config::load(&AgentArgs { config: Some(config), ..AgentArgs::default() })
            .map_err(|error| crate::start::chain(&error))
    });
    let configured = config.as_ref().and_then(|it| it.as_ref().ok()).map(|it| it.data.clone());
    let data = args.data.clone().or(configured).unwrap_or_else(|| DEFAULT_DATA.into());
    let mut found = findings::findings(&look::machine(&data));
    if let Some(Err(error)) = config {
        found.insert(0, Finding::of_configuration(&error));
    }
    let mut text = String::new();
    for finding in &found {
        text +=
            &format!("- {}\n  costs: {}\n  mend:  {}\n", finding.what, finding.costs, finding.mend);
    }
    if found.is_empty() {
        text += "nothing found: this machine is a good node\n";
    }
    // Whoever closed the stream does not want to read it.
    drop(std::io::stdout().write_all(text.as_bytes()));
    if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FOUND) }
}
