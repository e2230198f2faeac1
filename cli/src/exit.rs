//! What the exit code of the command says.
//!
//! An error of a verb comes in as `anyhow::Error`; the first cause in its chain that knows its own
//! code decides. The codes are part of the command's contract: scripts rely on them, `--help` lists them.

use crate::client::ClientError;
use crate::verbs::node::DrainError;
use crate::verbs::plan::SomethingToDo;
use crate::verbs::wait::WaitError;

/// The codes as `--help` shows them.
pub const HELP: &str = "\
Exit codes:
  0    done
  1    failed; the message says why
  2    wrong usage
  3    the controller cannot be reached
  4    there is no such application, instance, node, token or image
  5    the controller refused the token
  6    conflict: what the command relied on has changed
  7    `plan --exit-code`: there is something to do
  124  the time given to --timeout or --wait is over";

/// What the exit code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Done.
    Done = 0,
    /// Failed; the message says why.
    Failed = 1,
    /// Wrong usage.
    Usage = 2,
    /// The controller cannot be reached.
    Unreachable = 3,
    /// What was named is not there.
    NotFound = 4,
    /// The token was refused.
    Refused = 5,
    /// What the command relied on has changed.
    Conflict = 6,
    /// The plan has something to do.
    SomethingToDo = 7,
    /// The time is over.
    Timeout = 124,
}

impl Code {
    /// The code for an error: that of the first cause that has one.
    #[must_use]
    pub fn of(error: &anyhow::Error) -> Self {
        error.chain().find_map(known).unwrap_or(Self::Failed)
    }
}

impl From<Code> for std::process::ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// Something that was named and is not there, found out by the command itself.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotFound(pub String);

/// A combination of arguments that clap cannot refuse by itself.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

fn known(cause: &(dyn std::error::Error + 'static)) -> Option<Code> {
    if let Some(error) = cause.downcast_ref::<ClientError>() {
        return Some(error.code());
    }
    if let Some(error) = cause.downcast_ref::<WaitError>() {
        return Some(error.code());
    }
    if let Some(error) = cause.downcast_ref::<DrainError>() {
        return Some(error.code());
    }
    if cause.is::<SomethingToDo>() {
        return Some(Code::SomethingToDo);
    }
    if cause.is::<NotFound>() {
        return Some(Code::NotFound);
    }
    cause.is::<Usage>().then_some(Code::Usage)
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn the_cause_that_knows_its_code_decides() {
        let error = anyhow::Error::from(NotFound("no web".into()));
        assert_eq!(Code::of(&error.context("read the logs")), Code::NotFound);
        let error = Err::<(), _>(Usage("x".into())).context("a").context("b").unwrap_err();
        assert_eq!(Code::of(&error), Code::Usage);
        assert_eq!(Code::of(&anyhow::anyhow!("anything")), Code::Failed);
    }

    #[test]
    fn every_code_is_in_the_help() {
        let codes = [
            Code::Done,
            Code::Failed,
            Code::Usage,
            Code::Unreachable,
            Code::NotFound,
            Code::Refused,
            Code::Conflict,
            Code::SomethingToDo,
            Code::Timeout,
        ];
        for code in codes {
            let line = format!("\n  {} ", code as u8);
            assert!(HELP.contains(&line), "{code:?}");
        }
    }
}
