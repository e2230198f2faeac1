//! `limpet exec`: a command in a container, with the streams of this one.

use std::io::Read as _;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use limpet_controller::api::frames::{Frame, FrameError};
use limpet_controller::api::types::{ExecEnd, ExecRequest, InstanceView, TerminalSizeView};
use limpet_protocol::limits::MAX_CALL_CHUNK_BYTES;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};

use crate::client::Client;
use crate::exit::NotFound;
use crate::terminal::{self, Raw};
use crate::{complain, targets};

/// The exit code when the command itself could not do its work, as Docker has it.
pub const OWN_FAILURE: u8 = 125;
/// How often Ctrl-C is passed on before it ends this command.
const INTERRUPTS_PASSED_ON: u32 = 2;
/// The exit code then.
const INTERRUPTED: u8 = 130;

/// Arguments of `limpet exec`.
#[derive(Debug, Args)]
#[command(after_help = "\
A service means one of its running instances, a ready one if there is one. The command ends with this one: when the
connection breaks it is hung up, and killed two seconds later.

Exit codes: that of the command (128 + N if signal N ended it), 126 if it cannot be executed, 127 if it is not there,
125 if limpet itself failed; the message on standard error then begins with `limpet:`.

Examples:
  limpet exec -it web -- sh                    a shell in an instance of the service web
  limpet exec shop.web.2 -- cat /etc/hosts     one command in one instance
  tar c . | limpet exec -i web -- tar x -C /srv
  limpet exec -u root -w / -e DEBUG=1 web -- env")]
pub struct ExecArgs {
    /// Pass standard input on
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Set a variable of its environment; a NAME alone takes the value that it has here
    #[arg(short, long = "env", value_name = "NAME=VALUE")]
    environment: Vec<String>,
    /// Run it as this user (name or number, `:group` may follow)
    #[arg(short, long)]
    user: Option<String>,
    /// Run it in this folder
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// A service, APP.SERVICE or APP.SERVICE.SLOT
    #[arg(value_name = "SERVICE|INSTANCE")]
    target: String,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Runs the command; gives the exit code.
///
/// # Errors
/// If it could not be run, or its end is not known.
pub async fn run(args: &ExecArgs, client: &Client) -> anyhow::Result<u8> {
    if args.tty && !terminal::is_there() {
        anyhow::bail!("standard input is no terminal; leave out -t");
    }
    let all = client.instances(None).await?.items;
    let instance = choose(&args.target, &all)?;
    let terminal =
        args.tty.then(|| terminal::size().unwrap_or(TerminalSizeView { rows: 24, columns: 80 }));
    let request = ExecRequest {
        command: args.command.clone(),
        environment: args.environment.iter().filter_map(|text| variable(text)).collect(),
        working_dir: args.workdir.clone(),
        user: args.user.clone(),
        terminal,
        input: args.interactive,
    };
    // Before the terminal is raw: what fails up to here is shown as usual.
    let signals = Signals::new(args.tty)?;
    let connection = client.exec(&instance.instance, &request).await?;
    let raw = args.tty.then(Raw::enter).transpose().context("make the terminal raw")?;
    let ended = converse(connection, args.interactive, signals).await;
    drop(raw);
    match ended? {
        End::Command(ExecEnd { exit_code: Some(code), error }) => {
            if let Some(error) = error {
                complain(&error);
            }
            Ok(u8::try_from(code & 0xff).unwrap_or(OWN_FAILURE))
        }
        End::Command(ExecEnd { exit_code: None, error }) => {
            anyhow::bail!(error.unwrap_or_else(|| "how the command ended is not known".to_owned()))
        }
        End::Interrupted => Ok(INTERRUPTED),
    }
}

/// `NAME=VALUE`, or the value that a NAME has here; none if it has none.
fn variable(text: &str) -> Option<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => std::env::var(text).ok().map(|value| (text.to_owned(), value)),
    }
}

/// The instance that a word means for a command: it runs, and is ready if one of them is.
///
/// # Errors
/// If the word means none, several services, or nothing that runs.
pub fn choose<'a>(word: &str, all: &'a [InstanceView]) -> anyhow::Result<&'a InstanceView> {
    let found = targets::resolve(word, all)?;
    let service = |item: &InstanceView| format!("{}.{}", item.application, item.service);
    let mut services: Vec<String> = found.iter().map(|item| service(item)).collect();
    services.dedup();
    if services.len() > 1 {
        anyhow::bail!("{word:?} means several services; name one of {}", services.join(", "));
    }
    let running = found.iter().filter(|item| item.phase == "running");
    if let Some(best) = running.max_by_key(|item| (is_ready(item), std::cmp::Reverse(item.slot))) {
        return Ok(best);
    }
    let states: Vec<String> =
        found.iter().map(|item| format!("{} is {}", item.instance, item.phase)).collect();
    Err(NotFound(format!("no instance of {word:?} runs now: {}", states.join(", "))).into())
}

/// One that has no probe is as ready as it runs.
fn is_ready(item: &InstanceView) -> bool {
    item.ready != Some(false)
}

enum End {
    Command(ExecEnd),
    Interrupted,
}

/// Passes everything both ways until the command has ended.
async fn converse(
    connection: impl AsyncRead + AsyncWrite + Unpin,
    input: bool,
    signals: Signals,
) -> anyhow::Result<End> {
    let (from, to) = tokio::io::split(connection);
    let credit = Arc::new(Semaphore::new(0));
    tokio::select! {
        end = down(from, &credit) => end.map(End::Command),
        interrupted = up(to, &credit, input, signals) => interrupted.map(|()| End::Interrupted),
    }
}

async fn down(mut from: impl AsyncRead + Unpin, credit: &Semaphore) -> anyhow::Result<ExecEnd> {
    let broke = "the connection to the controller broke; the command is ended";
    loop {
        match Frame::read(&mut from).await.context(broke)? {
            Some(Frame::Output(data)) => show(&mut std::io::stdout(), &data)?,
            Some(Frame::ErrorOutput(data)) => show(&mut std::io::stderr(), &data)?,
            Some(Frame::Credit(chunks)) => credit.add_permits(chunks.into()),
            Some(Frame::End(end)) => return Ok(end),
            Some(_) => return Err(FrameError::Malformed).context(broke),
            None => anyhow::bail!(broke),
        }
    }
}

fn show(stream: &mut impl std::io::Write, data: &[u8]) -> std::io::Result<()> {
    stream.write_all(data)?;
    stream.flush()
}

/// Ends only when whoever sits here wants it to, or nothing can be said any more.
async fn up(
    mut to: impl AsyncWrite + Unpin,
    credit: &Semaphore,
    input: bool,
    mut signals: Signals,
) -> anyhow::Result<()> {
    let mut stdin = input.then(Stdin::start).transpose()?;
    let mut interrupts = 0;
    loop {
        let frame = tokio::select! {
            // Cancel-safe: a permit that is not used goes back.
            data = next_input(&mut stdin, credit) => match data {
                Some(data) => Frame::Input(data),
                None => {
                    stdin = None;
                    Frame::InputEnd
                }
            },
            event = signals.next() => match event {
                Event::Resized => match terminal::size() {
                    Some(size) => Frame::Resize(size.rows, size.columns),
                    None => continue,
                },
                Event::Signal(number) => {
                    interrupts += u32::from(number == INTERRUPT);
                    if interrupts > INTERRUPTS_PASSED_ON || signals.terminal {
                        return Ok(());
                    }
                    Frame::Signal(number)
                }
            },
        };
        if frame.write(&mut to).await.is_err() {
            // The other direction says why.
            return std::future::pending().await;
        }
    }
}

async fn next_input(stdin: &mut Option<Stdin>, credit: &Semaphore) -> Option<Vec<u8>> {
    let Some(stdin) = stdin else { return std::future::pending().await };
    if !stdin.asked {
        // The semaphore is never closed.
        let Ok(permit) = credit.acquire().await else { return std::future::pending().await };
        permit.forget();
        stdin.asked = true;
        // A thread that is gone has closed the other channel too.
        stdin.ask.try_send(()).ok();
    }
    let data = stdin.read.recv().await;
    stdin.asked = false;
    data
}

/// Standard input, read by a thread that nobody waits for: a read of a terminal cannot be given up.
struct Stdin {
    ask: std::sync::mpsc::SyncSender<()>,
    read: mpsc::Receiver<Vec<u8>>,
    asked: bool,
}

impl Stdin {
    fn start() -> std::io::Result<Self> {
        let (ask, asked) = std::sync::mpsc::sync_channel::<()>(1);
        let (give, read) = mpsc::channel(1);
        std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
            let mut stdin = std::io::stdin();
            while asked.recv().is_ok() {
                let mut data = vec![0; MAX_CALL_CHUNK_BYTES];
                match stdin.read(&mut data) {
                    Ok(count) if count > 0 => {
                        data.truncate(count);
                        if give.blocking_send(data).is_err() {
                            return;
                        }
                    }
                    _ => return,
                }
            }
        })?;
        Ok(Self { ask, read, asked: false })
    }
}

/// Signals of this process that mean something for the command.
struct Signals {
    terminal: bool,
    resized: Signal,
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    quit: Signal,
}

enum Event {
    Resized,
    Signal(u8),
}

const INTERRUPT: u8 = 2;

impl Signals {
    fn new(terminal: bool) -> std::io::Result<Self> {
        Ok(Self {
            terminal,
            resized: signal(SignalKind::window_change())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// Cancel-safe: a signal that is not taken stays.
    async fn next(&mut self) -> Event {
        tokio::select! {
            Some(()) = self.resized.recv(), if self.terminal => Event::Resized,
            Some(()) = self.interrupt.recv() => Event::Signal(INTERRUPT),
            Some(()) = self.terminate.recv() => Event::Signal(15),
            Some(()) = self.hang_up.recv() => Event::Signal(1),
            Some(()) = self.quit.recv() => Event::Signal(3),
            else => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::tests::instance;

    #[test]
    fn a_word_means_one_running_instance() {
        let stopped = |mut item: InstanceView| {
            item.phase = "failed".to_owned();
            item
        };
        let all = [
            stopped(instance("shop", "web", 1)),
            instance("shop", "web", 2),
            instance("shop", "web", 3),
            stopped(instance("shop", "db", 1)),
            instance("blog", "web", 1),
        ];
        assert_eq!(choose("shop.web", &all).unwrap().instance, "shop.web.2");
        assert_eq!(choose("shop.web.3", &all).unwrap().instance, "shop.web.3");
        let several = choose("web", &all).unwrap_err().to_string();
        assert!(several.contains("shop.web, blog.web"), "{several}");
        let none = choose("db", &all).unwrap_err().to_string();
        assert!(none.contains("shop.db.1 is failed"), "{none}");
        assert!(choose("nothing", &all).is_err());
    }

    #[test]
    fn variables_have_a_value_or_take_the_one_here() {
        let pair = |name: &str, value: &str| Some((name.to_owned(), value.to_owned()));
        assert_eq!(variable("A=b=c"), pair("A", "b=c"));
        assert_eq!(variable("A="), pair("A", ""));
        assert_eq!(variable("LIMPET_NO_SUCH_VARIABLE"), None);
    }
}
