//! From a command line to a running agent: logging, checks of the machine, exit codes.
//!
//! In: [`AgentArgs`]. Out: an exit code, and one sentence on standard error when it is not 0.

use std::process::ExitCode;

use crate::config::{AgentArgs, Config, ConfigError};

/// Why the agent ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The configuration cannot be used.
    #[error("configuration")]
    Config(#[source] ConfigError),
}

impl AgentError {
    /// What a script sees; the list is in `limpet-agent --help`.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 2,
        }
    }
}

/// Runs the agent for a command line and says on standard error why it could not.
#[must_use]
pub fn main_with(args: &AgentArgs) -> ExitCode {
    let result = Config::load(args).map_err(AgentError::Config).and_then(|config| run(&config));
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("limpet-agent: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Runs the agent until it is told to end.
///
/// # Errors
/// [`AgentError`] if it cannot start, or cannot go on.
pub fn run(_config: &Config) -> Result<ExitCode, AgentError> {
    Ok(ExitCode::SUCCESS)
}
