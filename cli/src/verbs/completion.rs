//! `limpet completion`: the script by which a shell completes the command.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::output;

/// Arguments of `limpet completion`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  limpet completion bash > /etc/bash_completion.d/limpet
  limpet completion zsh > \"${fpath[1]}/_limpet\"
  limpet completion fish > ~/.config/fish/completions/limpet.fish")]
pub struct CompletionArgs {
    /// For which shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Writes the script.
///
/// # Errors
/// If standard output cannot be written.
pub fn run(args: &CompletionArgs) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::command::Cli::command(), "limpet", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(())
}
