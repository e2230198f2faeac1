//! A further process in a container: what a forked child does for an exec.
//!
//! In: the request, the process's ends of its streams, and the control. Out: packets on the control,
//! see [`super::exec`]. The process is made of the container's own specification: its environment,
//! capabilities, resource limits and system call filter hold for whatever runs in the container.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::oci_spec::runtime::{LinuxSeccomp, Spec};
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use serde_json::{Value, json};

use super::bundle;
use super::child::{chain, say};
use super::first;
use super::passwd;
use super::sys;
use super::wire::Exec;
use crate::runtime::RuntimePaths;
use crate::runtime::exec::{NOT_EXECUTABLE, NOT_FOUND, TerminalSize};

/// What the exec'd process says of itself on the control, right before it becomes the command.
pub(super) const CREATED: &str = "created";
/// The command could not be executed: the word, the exit code, the reason.
pub(super) const NOT_EXECUTED: &str = "not-executed";

/// What libcontainer says when the container's cgroup takes no more processes.
const NO_ROOM: &str = "failed to launch init process";

/// Where libcontainer names the process before it can speak for itself.
pub(super) const PID_FILE: &str = "pid";

/// Runs the command in the container whose first process is `init`: the work of an exec's child.
/// It is over when the command is executed.
pub(super) fn run(
    paths: &RuntimePaths,
    init: u32,
    request: &Exec,
    streams: Vec<OwnedFd>,
    control: BorrowedFd<'_>,
) -> Result<(), String> {
    let folder = paths.exec(request.exec);
    let made = prepare(paths, init, request, &folder);
    let result = made.and_then(|process| build(request, &process, &folder, streams, control));
    // The keeper removes it once more where this child did not come here.
    drop(fs::remove_dir_all(&folder));
    result
}

/// Writes what libcontainer reads: the process, and a place of its own for the socket that it
/// leaves behind.
fn prepare(
    paths: &RuntimePaths,
    init: u32,
    request: &Exec,
    folder: &Path,
) -> Result<Process, String> {
    let id = &request.container;
    let state = folder.join(id);
    let make = |error: io::Error| format!("make {}: {error}", folder.display());
    fs::create_dir_all(&state).map_err(make)?;
    symlink(paths.states().join(id).join("state.json"), state.join("state.json")).map_err(make)?;
    let text = fs::read(paths.bundle(id).join("config.json"))
        .map_err(|error| format!("read the container's specification: {error}"))?;
    let mut config: Value = serde_json::from_slice(&text)
        .map_err(|error| format!("read the container's specification: {error}"))?;
    let seccomp = config["linux"]["seccomp"].take();
    let mut process = config["process"].take();
    adapt(&mut process, init, request)?;
    if !seccomp.is_null() {
        // A filter can be set this late only by who gives up new privileges for good.
        process["noNewPrivileges"] = json!(true);
    }
    let user = &process["user"];
    let number = |name: &str| user[name].as_u64().and_then(|id| u32::try_from(id).ok());
    let owner = (number("uid").unwrap_or(0), number("gid").unwrap_or(0));
    fs::write(folder.join("process.json"), process.to_string()).map_err(make)?;
    let seccomp = serde_json::from_value(seccomp)
        .map_err(|error| format!("read the container's system call filter: {error}"))?;
    Ok(Process { owner, seccomp })
}

/// What is known of the process before it is there.
struct Process {
    /// Its user and group.
    owner: (u32, u32),
    seccomp: Option<LinuxSeccomp>,
}

/// Makes of the container's own process the one that is asked for.
fn adapt(process: &mut Value, init: u32, request: &Exec) -> Result<(), String> {
    process["terminal"] = json!(false);
    process["args"] = json!(request.command);
    if let Some(folder) = &request.working_dir {
        process["cwd"] = json!(folder);
    }
    let mut environment = request.environment.clone();
    if let Some(user) = &request.user {
        let root = bundle::open_folder(Path::new(&format!("/proc/{init}/root")))
            .map_err(|error| format!("open the container's root folder: {error}"))?;
        let (passwd, group) =
            (bundle::read_in(&root, "etc/passwd"), bundle::read_in(&root, "etc/group"));
        let identity = passwd::resolve(user, &[], &passwd, &group).map_err(|e| e.to_string())?;
        let bounding = process["capabilities"]["bounding"].clone();
        process["capabilities"]["effective"] = bounding.clone();
        process["capabilities"]["permitted"] = bounding;
        bundle::set_identity(process, &identity);
        let home = identity.home.unwrap_or_else(|| "/".to_owned());
        environment.insert(0, ("HOME".to_owned(), home));
    }
    if request.terminal.is_some() {
        environment.insert(0, ("TERM".to_owned(), "xterm".to_owned()));
    }
    let Some(variables) = process["env"].as_array_mut() else { return Ok(()) };
    for (name, value) in environment {
        let known = |entry: &Value| {
            entry.as_str().is_some_and(|text| text.split('=').next() == Some(name.as_str()))
        };
        variables.retain(|entry| !known(entry));
        variables.push(json!(format!("{name}={value}")));
    }
    Ok(())
}

fn build(
    request: &Exec,
    process: &Process,
    folder: &Path,
    streams: Vec<OwnedFd>,
    control: BorrowedFd<'_>,
) -> Result<(), String> {
    let mut executor = Command {
        control: control.as_raw_fd(),
        terminal: None,
        seccomp: process.seccomp.clone(),
        command: request.command.clone(),
    };
    let mut builder = ContainerBuilder::new(request.container.clone(), SyscallType::default())
        .with_root_path(folder)
        .and_then(ContainerBuilder::validate_id)
        .map_err(|e| chain(&e))?;
    // Named until the command is executed, which closes it.
    let mut socket = None;
    match (request.terminal, <[OwnedFd; 3]>::try_from(streams)) {
        (None, Ok([stdin, stdout, stderr])) => {
            for stream in [&stdin, &stdout, &stderr] {
                give(stream, process.owner);
            }
            builder = builder.with_stdin(stdin).with_stdout(stdout).with_stderr(stderr);
        }
        (Some(size), Err(mut only)) => {
            socket = only.pop();
            executor.terminal = socket.as_ref().map(|socket| (socket.as_raw_fd(), size));
        }
        _ => return Err("the streams of an exec are three pipes or one terminal".to_owned()),
    }
    let built = builder
        .with_pid_file(Some(folder.join(PID_FILE)))
        .map_err(|e| chain(&e))?
        .with_executor(executor)
        .as_tenant()
        .with_process(Some(folder.join("process.json")))
        .with_detach(true)
        .as_sibling(true)
        .build();
    drop(socket);
    built.map(|_| ()).map_err(|error| {
        let error = chain(&error);
        if error.contains(NO_ROOM) {
            // The container's own doing: whoever asked learns it as of a command that does not run.
            let reason = "the container has as many processes as it may have; raise its `pids` \
                          limit or end some";
            say(control, &format!("{NOT_EXECUTED} {NOT_EXECUTABLE} {reason}"));
        }
        explained(&error, request)
    })
}

/// Gives a pipe to who the process runs as, so that it may open `/dev/stdout` again. Anything else
/// (such as the node's `/dev/null`) stays whose it is.
fn give(stream: &OwnedFd, (uid, gid): (u32, u32)) {
    let Ok(file) = stream.try_clone().map(fs::File::from) else { return };
    if file.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo()) {
        // It works without, unless the program opens it by its name.
        std::os::unix::fs::fchown(&file, Some(uid), Some(gid)).ok();
    }
}

/// libcontainer's words for what can be said plainly.
fn explained(error: &str, request: &Exec) -> String {
    if let Some(folder) = &request.working_dir
        && error.contains("failed to unix syscall")
    {
        // What the kernel said comes as a detail.
        return format!("the working directory {folder} cannot be entered");
    }
    error.to_owned()
}

/// The last steps, in the process that becomes the command: in the container, as its user.
#[derive(Clone)]
struct Command {
    /// The control's number: the value that owned it is the parent's.
    control: RawFd,
    terminal: Option<(RawFd, TerminalSize)>,
    #[cfg_attr(not(feature = "seccomp"), expect(dead_code, reason = "there is no filter"))]
    seccomp: Option<LinuxSeccomp>,
    command: Vec<String>,
}

impl Command {
    /// Says something as this process: the kernel adds which one that is.
    fn say(&self, text: &str) {
        sys::write_inherited(self.control, text.as_bytes());
    }

    fn not_executed(&self, code: i32, reason: &str) -> ExecutorError {
        self.say(&format!("{NOT_EXECUTED} {code} {reason}"));
        ExecutorError::Other(reason.to_owned())
    }

    fn filter_calls(&self) -> Result<(), ExecutorError> {
        // Without the feature no container has a filter.
        #[cfg(feature = "seccomp")]
        if let Some(filter) = &self.seccomp {
            libcontainer::seccomp::initialize_seccomp(filter)
                .map_err(|error| self.not_executed(NOT_EXECUTABLE, &chain(&error)))?;
        }
        Ok(())
    }
}

impl Executor for Command {
    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        self.say(CREATED);
        if let Some((socket, size)) = self.terminal {
            first::open_terminal(socket, size)
                .map_err(|error| self.not_executed(NOT_EXECUTABLE, &error))?;
        }
        let Some((program, arguments)) = self.command.split_first() else {
            return Err(self.not_executed(NOT_FOUND, "no command is given"));
        };
        self.filter_calls()?;
        let error = std::process::Command::new(program).args(arguments).exec();
        Err(match error.kind() {
            io::ErrorKind::NotFound => {
                let reason = format!("{program:?} is not in the container: {error}");
                self.not_executed(NOT_FOUND, &reason)
            }
            _ => {
                let reason = format!("{program:?} cannot be executed: {error}");
                self.not_executed(NOT_EXECUTABLE, &reason)
            }
        })
    }

    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        // Executing it tells more than looking at it.
        Ok(())
    }
}
