//! The keeper's start: arguments, seal, lock, socket, its own mount namespace, its own session.
//!
//! Everything that can fail comes before the process that was started forks and ends: its exit
//! code and its standard error tell the agent whether a keeper is there.

use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::fs::{FlockOperation, Mode, flock};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::UnshareFlags;

use super::event_loop::Keeper;
use super::handover::Handover;
use super::{KEEPER_ARGUMENT, seal, socket, sys};
use crate::runtime::RuntimePaths;

/// Largest log of the keeper itself; at its start a larger one begins anew.
const MAX_LOG_BYTES: u64 = 64 * 1024;

/// Why there is no keeper.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    /// A wrong command line.
    #[error("keeper: unknown argument {0:?}; it takes --run DIR --data DIR --cgroup-parent PATH")]
    Argument(OsString),
    /// A folder, file or socket.
    #[error("{attempt}: {source}")]
    Io { attempt: String, source: io::Error },
    /// Another keeper is there: nothing to do.
    #[error("a keeper is there already")]
    AlreadyThere,
}

fn io_error(attempt: impl Into<String>) -> impl FnOnce(io::Error) -> StartError {
    let attempt = attempt.into();
    move |source| StartError::Io { attempt, source }
}

struct Arguments {
    paths: RuntimePaths,
    sealed: bool,
    handover: bool,
}

fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Arguments, StartError> {
    let paths = RuntimePaths {
        run: PathBuf::from("/run/limpet"),
        data: PathBuf::from("/var/lib/limpet"),
        cgroup_parent: "/limpet".to_owned(),
    };
    let mut parsed = Arguments { paths, sealed: false, handover: false };
    while let Some(arg) = args.next() {
        let value = |next: Option<OsString>| next.ok_or_else(|| StartError::Argument(arg.clone()));
        match arg.to_str() {
            Some("--run") => parsed.paths.run = value(args.next())?.into(),
            Some("--data") => parsed.paths.data = value(args.next())?.into(),
            Some("--cgroup-parent") => {
                let parent = value(args.next())?;
                parsed.paths.cgroup_parent = parent.into_string().map_err(StartError::Argument)?;
            }
            Some("--sealed") => parsed.sealed = true,
            Some("--handover") => parsed.handover = true,
            _ => return Err(StartError::Argument(arg)),
        }
    }
    Ok(parsed)
}

/// The command line of a keeper for these paths, its own name first.
pub(crate) fn arguments(paths: &RuntimePaths, flags: &[&str]) -> Vec<OsString> {
    let fixed: [&OsStr; 8] = [
        OsStr::new("limpet-keeper"),
        OsStr::new(KEEPER_ARGUMENT),
        OsStr::new("--run"),
        paths.run.as_os_str(),
        OsStr::new("--data"),
        paths.data.as_os_str(),
        OsStr::new("--cgroup-parent"),
        OsStr::new(&paths.cgroup_parent),
    ];
    fixed.iter().copied().chain(flags.iter().map(OsStr::new)).map(OsStr::to_owned).collect()
}

/// Runs a keeper, or starts one and ends.
pub(super) fn main(args: impl Iterator<Item = OsString>) -> Result<ExitCode, StartError> {
    let arguments = parse(args)?;
    if !arguments.sealed {
        return Err(execute_sealed(&arguments.paths));
    }
    let keeper = if arguments.handover {
        take_over(arguments.paths)?
    } else {
        match start(arguments.paths)? {
            Some(keeper) => keeper,
            None => return Ok(ExitCode::SUCCESS),
        }
    };
    Ok(keeper.run())
}

/// Executes this program again, sealed. Returns only the reason why not.
fn execute_sealed(paths: &RuntimePaths) -> StartError {
    let attempt = "execute a sealed copy of this program";
    match seal::sealed(Path::new("/proc/self/exe")) {
        Err(error) => io_error(attempt)(error),
        Ok(program) => {
            // Whatever the agent, or who started it, let slip: the keeper outlives them.
            sys::close_all_but(&[program.as_fd()]);
            let arguments = arguments_absolute(paths);
            let arguments: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
            io_error(attempt)(sys::exec_fd(program.as_fd(), &arguments))
        }
    }
}

/// The keeper leaves the working directory that relative paths are meant in.
fn arguments_absolute(paths: &RuntimePaths) -> Vec<OsString> {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let paths = RuntimePaths {
        run: absolute(&paths.run),
        data: absolute(&paths.data),
        cgroup_parent: paths.cgroup_parent.clone(),
    };
    arguments(&paths, &["--sealed"])
}

/// A new keeper, in the process that goes on; none in the one that was started.
fn start(paths: RuntimePaths) -> Result<Option<Keeper>, StartError> {
    // What starting execs of an earlier keeper left.
    drop(std::fs::remove_dir_all(paths.execs()));
    for folder in [
        &paths.run,
        &paths.execs(),
        &paths.bundles(),
        &paths.states(),
        &paths.logs(),
        &paths.data,
        &paths.writables(),
        &paths.volumes(),
    ] {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(io_error(format!("make the folder {}", folder.display())))?;
    }
    let lock = lock(&paths.run)?;
    own_mounts().map_err(io_error("make a mount namespace (this takes root)"))?;
    let listener = socket::listen_in(&paths.run)
        .map_err(io_error(format!("listen in {}", paths.run.display())))?;
    let log = open_log(&paths.run).map_err(io_error("open keeper.log"))?;
    if let sys::Fork::Parent(_) = sys::fork().map_err(io_error("fork"))? {
        return Ok(None);
    }
    let detach = || -> io::Result<()> {
        rustix::process::setsid()?;
        let null = File::open("/dev/null")?;
        sys::redirect(null.as_fd(), &[0])?;
        sys::redirect(log.as_fd(), &[1, 2])
    };
    detach().map_err(io_error("leave the agent's session"))?;
    let mut keeper = settle(paths, lock, listener)?;
    keeper.adopt(false);
    keeper.clear_orphans();
    Ok(Some(keeper))
}

/// The keeper that goes on where the program before it stopped.
fn take_over(paths: RuntimePaths) -> Result<Keeper, StartError> {
    let handover = Handover::take(&paths).map_err(io_error("read the handover"))?;
    let adopt = |fd| sys::adopt_fd(fd).map_err(io_error("take over a descriptor"));
    let (lock, listener) = (adopt(handover.lock)?, adopt(handover.listener)?);
    let mut keeper = settle(paths, lock, listener)?;
    keeper.adopt(true);
    keeper.take_over(handover);
    Ok(keeper)
}

/// What every keeper sets about its process.
fn settle(paths: RuntimePaths, lock: OwnedFd, listener: OwnedFd) -> Result<Keeper, StartError> {
    sys::ignore_terminal_signals();
    rustix::process::umask(Mode::from_bits_truncate(0o022));
    let set = || -> io::Result<()> {
        std::env::set_current_dir("/")?;
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        // Each container takes three descriptors.
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
        Ok(())
    };
    set().map_err(io_error("set up the keeper's process"))?;
    Keeper::new(paths, lock, listener).map_err(io_error("set up the keeper's loop"))
}

fn lock(run: &Path) -> Result<OwnedFd, StartError> {
    let path = run.join("keeper.lock");
    let attempt = format!("lock {}", path.display());
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = OwnedFd::from(file.map_err(io_error(attempt.clone()))?);
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StartError::AlreadyThere),
        Err(error) => Err(io_error(attempt)(error.into())),
    }
}

/// Root file systems of containers are mounted where nobody else sees them and where they end with
/// the keeper; what the node mounts later still comes in.
fn own_mounts() -> io::Result<()> {
    sys::unshare(UnshareFlags::NEWNS)?;
    let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    Ok(mount_change("/", flags)?)
}

fn open_log(run: &Path) -> io::Result<File> {
    let path = run.join("keeper.log");
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    if file.metadata()?.len() > MAX_LOG_BYTES {
        file.set_len(0)?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_goes_both_ways() {
        let paths = RuntimePaths {
            run: "/a b".into(),
            data: "/c".into(),
            cgroup_parent: "/limpet-test".to_owned(),
        };
        let line = arguments(&paths, &["--sealed"]);
        assert_eq!(line[1], KEEPER_ARGUMENT);
        let parsed = parse(line.into_iter().skip(2)).unwrap();
        assert_eq!(parsed.paths.run, Path::new("/a b"));
        assert_eq!(parsed.paths.cgroup_parent, "/limpet-test");
        assert!(parsed.sealed && !parsed.handover);
        assert!(parse([OsString::from("--what")].into_iter()).is_err());
        assert!(parse([OsString::from("--run")].into_iter()).is_err());
    }
}
