//! What the agent's program does on a board from one of Limpet's own images, beside being the agent.
//!
//! In: what the image's scripts ask for, as they have no other program of ours (`limpet-agent board …`).
//! Out: [`settings`] takes `limpet.toml` apart into what each of them reads; [`grow`] gives the state the
//! whole card. Neither is of use on another system.

mod grow;
mod mbr;
mod settings;
mod wifi;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use crate::start::chain;
use settings::Settings;

/// What is to be done.
#[derive(Debug, Subcommand)]
pub enum BoardVerb {
    /// Take limpet.toml apart into what the scripts of the image read
    Settings {
        /// The file, as people change it
        file: PathBuf,
        /// Where the last one that was in order is kept
        #[arg(long)]
        kept: PathBuf,
        /// The folder for the parts
        #[arg(long)]
        into: PathBuf,
    },
    /// Let a partition, which nothing uses yet, reach to the end of its disk
    GrowPartition {
        /// Its device
        device: PathBuf,
    },
    /// Let an ext4 file system fill its partition while it is mounted
    GrowFilesystem {
        /// Where it is mounted
        folder: PathBuf,
    },
}

/// Does it, and says on standard error what stood in the way.
#[must_use]
pub fn main_with(verb: &BoardVerb) -> ExitCode {
    let done = match verb {
        BoardVerb::Settings { file, kept, into } => {
            Settings::take_apart(file, kept, into).map_err(|error| chain(&error))
        }
        BoardVerb::GrowPartition { device } => {
            grow::partition(device).map_err(|error| chain(&error))
        }
        BoardVerb::GrowFilesystem { folder } => {
            grow::file_system(folder).map_err(|error| chain(&error))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(said) => {
            eprintln!("limpet: {said}");
            ExitCode::FAILURE
        }
    }
}
