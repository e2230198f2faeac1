//! The forked child: the only place where libcontainer is called.
//!
//! In: a request and the write end of a pipe, the control. Out: lines on the control, see
//! [`Answer`]. What libcontainer does to its process (working directory, descriptors, dumpable,
//! `oom_score_adj`) goes with the child.

use std::error::Error;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use limpet_protocol::codec;

use super::bundle;
use super::cgroup::Hierarchies;
use super::first::First;
use super::passwd::Identity;
use super::plan::Plan;
use super::record::start_time;
use super::subpath;
use super::sys;
use super::wire::MAX_MESSAGE_BYTES;
use crate::runtime::RuntimePaths;

/// Longest text of one control line: a line is written at once and a pipe keeps it whole (PIPE_BUF).
const MAX_LINE_BYTES: usize = 1000;
/// Most details that are kept: the first ones name the cause.
const MAX_DETAILS: usize = 3;
/// Most bytes of an answer that are kept while its line is not whole.
const MAX_PARTIAL_BYTES: usize = 4096;

/// What a child has said so far.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// The container's first process and its start time: it is made, not yet started.
    pub created: Option<(u32, u64)>,
    /// It is being let go.
    pub started: bool,
    /// Its first process ended while the child was still at work.
    pub ended: Option<Option<i32>>,
    /// The work is done.
    pub done: bool,
    /// The work failed.
    pub failed: Option<String>,
    details: Vec<String>,
    late_detail: bool,
    partial: Vec<u8>,
}

impl Answer {
    /// Takes what came over the control.
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            self.hear_line(String::from_utf8_lossy(&line).trim_end());
        }
        if self.partial.len() > MAX_PARTIAL_BYTES {
            self.partial.clear();
        }
    }

    fn hear_line(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "created" => {
                let mut numbers = rest.split(' ');
                let pid = numbers.next().and_then(|text| text.parse().ok());
                let start = numbers.next().and_then(|text| text.parse().ok());
                self.created = pid.zip(start);
            }
            "started" => self.started = true,
            "done" => self.done = true,
            "failed" => self.failed = Some(rest.to_owned()),
            "detail" => {
                self.late_detail |= self.started;
                if self.details.len() < MAX_DETAILS {
                    self.details.push(rest.to_owned());
                }
            }
            _ => {}
        }
    }

    /// Whether the container's program was let go but could not be executed.
    pub(super) const fn failed_to_execute(&self) -> bool {
        self.started && self.late_detail
    }

    /// Why it failed, with what libcontainer would only have logged.
    pub(super) fn reason(&self, otherwise: &str) -> String {
        let mut reason = self.failed.clone().unwrap_or_else(|| otherwise.to_owned());
        for detail in &self.details {
            if !reason.contains(detail.as_str()) {
                reason.push_str("; ");
                reason.push_str(detail);
            }
        }
        let max = limpet_protocol::limits::MAX_REASON_BYTES;
        if let Some((cut, _)) =
            reason.char_indices().take_while(|(at, c)| at + c.len_utf8() <= max).last()
            && reason.len() > max
        {
            reason.truncate(cut);
        }
        reason
    }
}

/// Forks a child that does `work`; answers its process id and the read end of its control.
pub(super) fn spawn(
    work: impl FnOnce(BorrowedFd<'_>) -> Result<(), String>,
) -> std::io::Result<(u32, OwnedFd)> {
    spawn_with(Vec::new(), |control, _| work(control))
}

/// The same for work that needs some of the caller's descriptors.
pub(super) fn spawn_with(
    kept: Vec<OwnedFd>,
    work: impl FnOnce(BorrowedFd<'_>, Vec<OwnedFd>) -> Result<(), String>,
) -> std::io::Result<(u32, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&read, true)?;
    let child = spawn_over(write, kept, work)?;
    Ok((child, read))
}

/// The same over a control of the caller's.
pub(super) fn spawn_over(
    write: OwnedFd,
    kept: Vec<OwnedFd>,
    work: impl FnOnce(BorrowedFd<'_>, Vec<OwnedFd>) -> Result<(), String>,
) -> std::io::Result<u32> {
    match sys::fork()? {
        sys::Fork::Parent(pid) => Ok(pid.as_raw_nonzero().get().unsigned_abs()),
        sys::Fork::Child => {
            let all: Vec<_> = kept.iter().chain([&write]).map(AsFd::as_fd).collect();
            sys::close_all_but(&all);
            sys::reset_signals();
            listen_to_details(&write);
            let line = match work(write.as_fd(), kept) {
                Ok(()) => "done".to_owned(),
                Err(reason) => format!("failed {reason}"),
            };
            say(write.as_fd(), &line);
            sys::exit_now(0)
        }
    }
}

/// Writes one line on the control. Nobody can be told if it fails.
pub(super) fn say(control: BorrowedFd<'_>, text: &str) {
    let mut line: Vec<u8> = text.bytes().map(|b| if b == b'\n' { b' ' } else { b }).collect();
    line.truncate(MAX_LINE_BYTES);
    line.push(b'\n');
    rustix::io::write(control, &line).ok();
}

/// Makes and starts container `id`: the work of a creating child.
pub(super) fn create(
    paths: &RuntimePaths,
    id: &str,
    plan: &[u8],
    (control, terminal): (BorrowedFd<'_>, Option<OwnedFd>),
) -> Result<(), String> {
    let plan: Plan = codec::decode_within(plan, MAX_MESSAGE_BYTES).map_err(|e| chain(&e))?;
    let identity = bundle::prepare(paths, id, &plan).map_err(|e| chain(&e))?;
    let bundle = paths.bundle(id);
    let [stdin, stdout, stderr] = standard_streams(&bundle, &plan, &identity)
        .map_err(|error| format!("open the container's output: {error}"))?;
    // A container of this name that an earlier keeper left behind was killed by its cleaning.
    drop(std::fs::remove_dir_all(paths.states().join(id)));
    let mut builder = ContainerBuilder::new(id.to_owned(), SyscallType::default())
        .with_root_path(paths.states())
        .and_then(ContainerBuilder::validate_id)
        .map_err(|e| chain(&e))?;
    if plan.init || terminal.is_some() {
        let terminal = terminal.as_ref().map(AsRawFd::as_raw_fd);
        builder = builder.with_executor(First { terminal, init: plan.init });
    }
    let built = builder
        .with_stdin(stdin)
        .with_stdout(stdout)
        .with_stderr(stderr)
        .as_init(bundle)
        .with_systemd(false)
        .with_detach(true)
        .as_sibling(true)
        .build();
    subpath::remove(paths, id).map_err(|e| format!("take folders of volumes away: {e}"))?;
    let mut container = built.map_err(|e| chain(&e))?;
    bundle::prepare_for_execs(paths, id).map_err(|e| chain(&e))?;
    let pid = container.pid().ok_or("libcontainer named no process")?.as_raw().unsigned_abs();
    let ticks = start_time(pid).ok_or("the container's process ended before it was started")?;
    say(control, &format!("created {pid} {ticks}"));
    if plan.own_network {
        bring_up_loopback_of(pid)
            .map_err(|error| format!("bring up the container's loopback device: {error}"))?;
    }
    // Said before: a quick container ends before this call returns.
    say(control, "started");
    container.start().map_err(|e| chain(&e))
}

/// Standard input, output and error of the container. The outputs are pipes with a name, opened
/// for reading too: the container survives a keeper that dies, and the next one finds them.
fn standard_streams(
    bundle: &Path,
    plan: &Plan,
    identity: &Identity,
) -> std::io::Result<[OwnedFd; 3]> {
    let open = |name: &str| -> std::io::Result<OwnedFd> {
        let file = OpenOptions::new().read(true).write(true).open(bundle.join(name))?;
        // So that the process may open /dev/stdout again when it is not root.
        rustix::fs::fchown(
            &file,
            Some(rustix::fs::Uid::from_raw(identity.uid)),
            Some(rustix::fs::Gid::from_raw(identity.gid)),
        )?;
        Ok(file.into())
    };
    let stdin = if plan.open_stdin {
        rustix::fs::mknodat(
            rustix::fs::CWD,
            bundle.join("stdin"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_bits_truncate(0o600),
            0,
        )?;
        open("stdin")?
    } else {
        File::open("/dev/null")?.into()
    };
    Ok([stdin, open("stdout")?, open("stderr")?])
}

/// libcontainer leaves the loopback device of a new network namespace down.
fn bring_up_loopback_of(pid: u32) -> std::io::Result<()> {
    let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
    let kind = Some(rustix::thread::LinkNameSpaceType::Network);
    rustix::thread::move_into_link_name_space(namespace.as_fd(), kind)?;
    sys::bring_up_loopback()
}

/// Removes what is left of container `id`: the work of a cleaning child. The log is kept where the
/// container could not even be made, so that its reasons can be read.
pub(super) fn clean(
    paths: &RuntimePaths,
    hierarchies: &Hierarchies,
    id: &str,
    keep_log: bool,
) -> Result<(), String> {
    let cgroup = paths.cgroup(id);
    hierarchies.kill(&cgroup);
    hierarchies.remove(&cgroup).map_err(|error| format!("remove cgroup {cgroup}: {error}"))?;
    super::content::remove(&paths.bundle(id));
    subpath::remove(paths, id).map_err(|e| format!("take folders of volumes away: {e}"))?;
    let rootfs = paths.bundle(id).join("rootfs");
    while rustix::mount::unmount(&rootfs, rustix::mount::UnmountFlags::DETACH).is_ok() {}
    for folder in [paths.writable(id), paths.states().join(id), paths.bundle(id)] {
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(format!("remove {}: {error}", folder.display()));
            }
            _ => {}
        }
    }
    if !keep_log {
        super::log::remove_log(&paths.log(id));
    }
    Ok(())
}

/// An error with its causes.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// Passes libcontainer's error log on as details: its errors say little.
fn listen_to_details(control: &OwnedFd) {
    let details = Details { control: control.as_raw_fd() };
    // It can be set once a process, and this process is new.
    drop(tracing::subscriber::set_global_default(details));
}

struct Details {
    control: i32,
}

impl tracing::Subscriber for Details {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::ERROR
    }
    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(tracing::level_filters::LevelFilter::ERROR)
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = Text(String::from("detail "));
        event.record(&mut text);
        let mut line = text.0.replace('\n', " ");
        line.push('\n');
        sys::write_inherited(self.control, line.as_bytes());
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// An event's message first, then its fields.
struct Text(String);

impl tracing::field::Visit for Text {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        // Writing to a string cannot fail.
        match field.name() {
            "message" => write!(self.0, "{value:?}").ok(),
            name => write!(self.0, " {name}={value:?}").ok(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_in_pieces() {
        let mut answer = Answer::default();
        answer.hear(b"detail bad thing\ncreated 12 ");
        assert_eq!(answer.created, None);
        answer.hear(b"345\nstarted\n");
        assert_eq!(answer.created, Some((12, 345)));
        assert!(answer.started && !answer.failed_to_execute());
        answer.hear(b"detail no such format\n");
        assert!(answer.failed_to_execute());
        assert_eq!(answer.reason("could not run"), "could not run; bad thing; no such format");
    }
}
