//! A check that is a command in the container: what it wrote, and what its end means.
//!
//! In: the read end of its output, and word of its end. Out: an [`Outcome`]. The command may write
//! without end: it is read all the time, and the beginning is kept.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::net::unix::pipe::Receiver;
use tokio::sync::oneshot;

use crate::health::Outcome;
use crate::runtime::ExecOutcome;

/// Of what a check writes so much is kept: as Docker does (`maxOutputLen`).
const MAX_OUTPUT_BYTES: usize = 4096;
/// After its end so much is read of what it still had to say; a process that it left behind may go on
/// writing.
const MAX_LAST_BYTES: usize = 256 * 1024;

/// How a command ended.
#[derive(Debug)]
pub enum End {
    /// By itself, or it never began.
    Ended(ExecOutcome),
    /// It was killed: it took too long.
    TimedOut(Duration),
}

/// Reads the output of a command until its end is told.
pub async fn watch(output: OwnedFd, mut end: oneshot::Receiver<End>) -> Outcome {
    let mut kept = Vec::new();
    let mut pipe = Receiver::from_owned_fd(output).ok();
    let end = loop {
        tokio::select! {
            biased;
            end = &mut end => break end,
            more = read(pipe.as_mut(), &mut kept) => if !more { pipe = None },
        }
    };
    if let Some(pipe) = &pipe {
        drain(pipe, &mut kept);
    }
    match end {
        Ok(end) => outcome(end, &said(&kept)),
        Err(_) => Outcome::NotMade("the agent is ending".to_owned()),
    }
}

/// Whether there may be more.
async fn read(pipe: Option<&mut Receiver>, kept: &mut Vec<u8>) -> bool {
    let Some(pipe) = pipe else { return std::future::pending().await };
    if pipe.readable().await.is_err() {
        return false;
    }
    let mut chunk = [0; 4096];
    match pipe.try_read(&mut chunk) {
        Ok(0) => false,
        Ok(count) => {
            keep(kept, &chunk[..count]);
            true
        }
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

/// Takes what is in the pipe already, without waiting for more.
fn drain(pipe: &Receiver, kept: &mut Vec<u8>) {
    let mut chunk = [0; 4096];
    let mut taken = 0;
    // Asked for directly: tokio may not have heard yet that there is something.
    while taken < MAX_LAST_BYTES
        && let Ok(count) = rustix::io::read(pipe, &mut chunk)
        && count > 0
    {
        keep(kept, &chunk[..count]);
        taken += count;
    }
}

fn keep(kept: &mut Vec<u8>, chunk: &[u8]) {
    let room = MAX_OUTPUT_BYTES - kept.len();
    kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
}

/// One line, for people.
fn said(kept: &[u8]) -> String {
    let text = String::from_utf8_lossy(kept);
    text.split(|c: char| c.is_control())
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

fn outcome(end: End, said: &str) -> Outcome {
    let with = |what: String| match said {
        "" => what,
        said => format!("{what}: {said}"),
    };
    match end {
        End::Ended(ExecOutcome::Exited(0)) => Outcome::Passed,
        End::Ended(ExecOutcome::Exited(code)) => Outcome::Failed(with(format!("exit code {code}"))),
        End::Ended(ExecOutcome::NotExecuted { reason, .. }) => Outcome::Failed(reason),
        End::Ended(ExecOutcome::Refused { reason }) => Outcome::NotMade(reason),
        End::Ended(ExecOutcome::Lost) => Outcome::NotMade("the keeper was lost".to_owned()),
        End::TimedOut(limit) => Outcome::Failed(with(format!("it took longer than {limit:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    async fn of(writes: &[u8], end: End) -> Outcome {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        let (tell, told) = oneshot::channel();
        let mut write = std::fs::File::from(write);
        write.write_all(writes).unwrap();
        tell.send(end).unwrap();
        // The write end stays open, as with a process that the check left behind.
        let outcome = watch(read, told).await;
        drop(write);
        outcome
    }

    #[tokio::test]
    async fn the_end_says_how_it_went_and_the_output_why() {
        let limit = Duration::from_millis(1_500);
        let reason = || "no such file".to_owned();
        let failed = |said: &str| Outcome::Failed(said.to_owned());
        for (writes, end, expected) in [
            ("fine\n", End::Ended(ExecOutcome::Exited(0)), Outcome::Passed),
            ("", End::Ended(ExecOutcome::Exited(1)), failed("exit code 1")),
            (
                "a\nb\r\n\u{1b}[1mc",
                End::Ended(ExecOutcome::Exited(137)),
                failed("exit code 137: a b [1mc"),
            ),
            (
                "",
                End::Ended(ExecOutcome::NotExecuted { code: 127, reason: reason() }),
                failed("no such file"),
            ),
            ("", End::Ended(ExecOutcome::Refused { reason: reason() }), Outcome::NotMade(reason())),
            ("", End::Ended(ExecOutcome::Lost), Outcome::NotMade("the keeper was lost".to_owned())),
            ("so far", End::TimedOut(limit), failed("it took longer than 1.5s: so far")),
        ] {
            assert_eq!(of(writes.as_bytes(), end).await, expected, "{writes}");
        }
    }

    #[tokio::test]
    async fn a_flood_is_read_and_only_its_beginning_kept() {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        rustix::io::ioctl_fionbio(&read, true).unwrap();
        let (tell, told) = oneshot::channel();
        let writer = std::thread::spawn(move || {
            let mut write = std::fs::File::from(write);
            for _ in 0..64 {
                write.write_all(&[b'x'; 64 * 1024]).unwrap();
            }
            tell.send(End::Ended(ExecOutcome::Exited(1))).unwrap();
        });
        let Outcome::Failed(said) = watch(read, told).await else { panic!() };
        assert_eq!(said.len(), "exit code 1: ".len() + MAX_OUTPUT_BYTES);
        writer.join().unwrap();
    }

    #[tokio::test]
    async fn a_loop_that_ends_makes_no_failure() {
        let (read, _write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        let (tell, told) = oneshot::channel::<End>();
        drop(tell);
        assert!(matches!(watch(read, told).await, Outcome::NotMade(_)));
    }
}
