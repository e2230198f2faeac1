//! The terminal that the command runs in: raw while a command in a container has it, and restored
//! whatever happens.

use std::io::{self, IsTerminal as _};

use limpet_controller::api::types::TerminalSizeView;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Whether standard input is a terminal.
#[must_use]
pub fn is_there() -> bool {
    io::stdin().is_terminal()
}

/// The size of the terminal; none if nothing here is one.
#[must_use]
pub fn size() -> Option<TerminalSizeView> {
    let size = tcgetwinsize(rustix::stdio::stdout())
        .or_else(|_| tcgetwinsize(rustix::stdio::stdin()))
        .ok()?;
    let known = size.ws_row > 0 && size.ws_col > 0;
    known.then_some(TerminalSizeView { rows: size.ws_row, columns: size.ws_col })
}

/// The terminal in raw mode: every key goes to the command. Restored when it is dropped.
#[derive(Debug)]
pub struct Raw {
    before: Termios,
}

impl Raw {
    /// Makes the terminal raw.
    ///
    /// # Errors
    /// If standard input is no terminal.
    pub fn enter() -> io::Result<Self> {
        let stdin = rustix::stdio::stdin();
        let before = tcgetattr(stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin, OptionalActions::Now, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // There is no other way to restore it, and nobody to tell.
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &self.before).ok();
    }
}
