//! A command in an instance, for one caller: its streams to and from the wire.
//!
//! In: input from the caller, a terminal's sizes, the end that the runtime tells. Out: chunks of
//! output for credit, credit for input as the command takes it, and the exit code. A command that
//! does not read holds [`INPUT_WINDOW`] pieces of input here; one that is not read waits in its pipe.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use limpet_protocol::call::{CallOut, ExecCall, Stream, TerminalSize};
use limpet_protocol::id::SessionId;
use limpet_protocol::limits::{INPUT_WINDOW, MAX_CALL_CHUNK_BYTES};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::unix::AsyncFd;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::{Answer, Out};
use crate::runtime::exec::{CallerEnds, receive_terminal};
use crate::runtime::keeper_client::watched;
use crate::runtime::{ContainerId, ExecOutcome, ExecRequest, ExecStreams};

/// Reads of one output after the command ended: more than a pipe holds. Whoever still writes then is
/// no part of the command.
const LAST_READS: usize = 8;
/// What ends the input of a terminal (Ctrl-D).
const END_OF_TRANSMISSION: &[u8] = b"\x04";

type Fd = AsyncFd<OwnedFd>;

/// What connects the task to the loop.
pub(super) type Wires = (
    Arc<Semaphore>,
    Option<mpsc::Receiver<Vec<u8>>>,
    watch::Receiver<TerminalSize>,
    oneshot::Receiver<ExecOutcome>,
);

/// A caller's command.
#[derive(Debug)]
pub struct ExecTask {
    session: SessionId,
    /// What the loop asks the runtime for; it is taken out before the task runs.
    request: Option<ExecRequest>,
    ends: Ends,
    credit: Arc<Semaphore>,
    input: Option<mpsc::Receiver<Vec<u8>>>,
    size: watch::Receiver<TerminalSize>,
    ended: oneshot::Receiver<ExecOutcome>,
}

#[derive(Debug)]
enum Ends {
    Pipes(CallerEnds),
    /// The socket over which the terminal comes.
    Terminal(OwnedFd),
}

impl ExecTask {
    pub(super) fn prepare(
        session: SessionId,
        container: ContainerId,
        call: ExecCall,
        (credit, input, size, ended): Wires,
    ) -> io::Result<Self> {
        let (streams, ends) = match call.terminal {
            Some(size) => {
                let (streams, socket) = ExecStreams::terminal(size)?;
                (streams, Ends::Terminal(socket))
            }
            None => {
                let (streams, ends) = ExecStreams::piped(call.input)?;
                (streams, Ends::Pipes(ends))
            }
        };
        let request = Some(ExecRequest {
            container,
            command: call.command,
            environment: call.environment,
            working_dir: call.working_dir,
            user: call.user,
            streams,
        });
        Ok(Self { session, request, ends, credit, input, size, ended })
    }

    /// Which call it is.
    #[must_use]
    pub fn session(&self) -> &SessionId {
        &self.session
    }

    /// What the runtime is to be asked for, once.
    pub fn take_request(&mut self) -> Option<ExecRequest> {
        self.request.take()
    }

    /// Passes everything on until the command has ended, and says how; or until the caller is gone.
    pub async fn run(self, answers: mpsc::Sender<Answer>) {
        let Self { session, ends, credit, input, mut size, mut ended, .. } = self;
        let mut out = Out::new(session, credit, answers);
        let credit = if input.is_some() { INPUT_WINDOW } else { 0 };
        out.say(CallOut::Credit { chunks: credit }).await;
        let opened = tokio::select! {
            opened = open(ends) => opened,
            outcome = &mut ended => return out.end(end_of(outcome.ok())).await,
        };
        let Streams { mut outputs, stdin, terminal } = match opened {
            Ok(streams) => streams,
            Err(error) => {
                let error = format!("the node lost the streams of the command: {error}");
                return out.end(CallOut::end(Some(error))).await;
            }
        };
        let outcome = {
            let feeding = feed(stdin, input, terminal.is_some(), (&out).into());
            let sizing = follow_size(terminal.as_ref(), &mut size);
            tokio::pin!(feeding, sizing);
            let (mut fed, mut read) = (false, false);
            let mut sink = Out::new(out.session.clone(), out.credit.clone(), out.answers.clone());
            let outcome = loop {
                tokio::select! {
                    outcome = &mut ended => break outcome,
                    () = &mut feeding, if !fed => fed = true,
                    () = &mut sizing => {}
                    // Cancel-safe: what is read is sent at once.
                    more = step(&mut outputs, &mut sink), if !read => read = !more,
                }
            };
            out.sequence = sink.sequence;
            outcome
        };
        if outcome.is_ok() {
            drain(&mut outputs, &mut out).await;
        }
        out.end(end_of(outcome.ok())).await;
    }
}

fn end_of(outcome: Option<ExecOutcome>) -> CallOut {
    match outcome {
        Some(ExecOutcome::Exited(code)) => CallOut::End { error: None, exit_code: Some(code) },
        Some(ExecOutcome::NotExecuted { code, reason }) => {
            CallOut::End { error: Some(reason), exit_code: Some(code) }
        }
        Some(ExecOutcome::Refused { reason }) => CallOut::end(Some(reason)),
        Some(ExecOutcome::Lost) => CallOut::end(Some(
            "the node's keeper was replaced meanwhile; whether the command goes on is not known"
                .to_owned(),
        )),
        // The loop dropped the call: nobody reads this.
        None => CallOut::end(Some("the call was ended".to_owned())),
    }
}

/// The caller's ends, watched.
struct Streams {
    outputs: Outputs,
    stdin: Option<Fd>,
    terminal: Option<OwnedFd>,
}

#[derive(Debug, Default)]
struct Outputs {
    stdout: Option<Fd>,
    stderr: Option<Fd>,
}

async fn open(ends: Ends) -> io::Result<Streams> {
    match ends {
        Ends::Pipes(CallerEnds { stdin, stdout, stderr }) => {
            let outputs = Outputs {
                stdout: Some(watched(stdout)?),
                stderr: stderr.map(watched).transpose()?,
            };
            Ok(Streams { outputs, stdin: stdin.map(watched).transpose()?, terminal: None })
        }
        Ends::Terminal(socket) => {
            let socket = watched(socket)?;
            drop(socket.readable().await?);
            let terminal = receive_terminal(socket.get_ref())?;
            let outputs = Outputs { stdout: Some(watched(terminal.try_clone()?)?), stderr: None };
            let stdin = Some(watched(terminal.try_clone()?)?);
            Ok(Streams { outputs, stdin, terminal: Some(terminal) })
        }
    }
}

/// Sends one piece of output; false when there is nothing left to read or nobody to read it.
async fn step(outputs: &mut Outputs, out: &mut Out) -> bool {
    if outputs.stdout.is_none() && outputs.stderr.is_none() {
        return false;
    }
    let Some(place) = out.place().await else { return false };
    let (stream, fd) = tokio::select! {
        ready = readable(outputs.stdout.as_ref()) => (Stream::Stdout, ready),
        ready = readable(outputs.stderr.as_ref()) => (Stream::Stderr, ready),
    };
    match fd {
        Read::Data(data) => place.send(stream, data),
        Read::Nothing => {}
        Read::End => match stream {
            Stream::Stdout => outputs.stdout = None,
            Stream::Stderr => outputs.stderr = None,
        },
    }
    true
}

enum Read {
    Data(Vec<u8>),
    Nothing,
    End,
}

async fn readable(fd: Option<&Fd>) -> Read {
    let Some(fd) = fd else { return std::future::pending().await };
    let Ok(mut ready) = fd.readable().await else { return Read::End };
    let read = read_once(fd.get_ref());
    if matches!(read, Read::Nothing) {
        ready.clear_ready();
    }
    read
}

fn read_once(fd: &OwnedFd) -> Read {
    let mut buffer = vec![0; MAX_CALL_CHUNK_BYTES];
    match rustix::io::read(fd, buffer.as_mut_slice()) {
        Ok(0) => Read::End,
        Ok(count) => {
            buffer.truncate(count);
            buffer.shrink_to_fit();
            Read::Data(buffer)
        }
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Read::Nothing,
        // A terminal that nobody has open any more says EIO.
        Err(_) => Read::End,
    }
}

/// Sends what was written before the command ended.
async fn drain(outputs: &mut Outputs, out: &mut Out) {
    for (stream, fd) in
        [(Stream::Stdout, outputs.stdout.take()), (Stream::Stderr, outputs.stderr.take())]
    {
        let Some(fd) = fd else { continue };
        for _ in 0..LAST_READS {
            let Some(place) = out.place().await else { return };
            match read_once(fd.get_ref()) {
                Read::Data(data) => place.send(stream, data),
                Read::Nothing | Read::End => break,
            }
        }
    }
}

/// Where credit for input is told.
struct Credit {
    session: SessionId,
    answers: mpsc::Sender<Answer>,
}

impl From<&Out> for Credit {
    fn from(out: &Out) -> Self {
        Self { session: out.session.clone(), answers: out.answers.clone() }
    }
}

/// Writes input as the command takes it, and gives credit for more.
async fn feed(
    stdin: Option<Fd>,
    input: Option<mpsc::Receiver<Vec<u8>>>,
    is_terminal: bool,
    credit: Credit,
) {
    let (Some(stdin), Some(mut input)) = (stdin, input) else { return };
    while let Some(data) = input.recv().await {
        if write_all(&stdin, &data).await.is_err() {
            // It does not read any more, which its end will explain. The rest is for nobody.
            return;
        }
        let message = CallOut::Credit { chunks: 1 };
        if credit.answers.send(Answer { session: credit.session.clone(), message }).await.is_err() {
            return;
        }
    }
    if is_terminal {
        // One that does not read it has no need of it.
        write_all(&stdin, END_OF_TRANSMISSION).await.ok();
    }
}

async fn write_all(fd: &Fd, mut data: &[u8]) -> io::Result<()> {
    while !data.is_empty() {
        let mut ready = fd.writable().await?;
        match rustix::io::write(fd.get_ref(), data) {
            Ok(count) => data = &data[count..],
            Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Gives the terminal the sizes that the caller's has. Ends never.
async fn follow_size(terminal: Option<&OwnedFd>, size: &mut watch::Receiver<TerminalSize>) {
    while let Some(terminal) = terminal
        && size.changed().await.is_ok()
    {
        let TerminalSize { rows, columns } = *size.borrow_and_update();
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        if let Err(error) = tcsetwinsize(terminal, size) {
            tracing::debug!("set the size of a terminal: {error}");
        }
    }
    std::future::pending().await
}
