//! Devices: which device nodes containers could be given, and when that changes.
//!
//! In: `/dev` and what the kernel says of changes there (inotify(7)). Out: paths, in their order. Nothing
//! is polled: a node on which nothing is plugged in or out does nothing here.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use limpet_protocol::limits::{MAX_DEVICE_PATH_BYTES, MAX_DEVICES_PER_NODE};
use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;

use crate::runtime::keeper_client::watched;

/// How long after a change everything is looked at: plugging one thing in makes many nodes.
pub const SETTLES_MS: u64 = 500;
/// Deepest folder: `/dev/bus/usb/001`, and one more.
const MAX_DEPTH: usize = 4;
/// Folders that are looked into and watched.
const MAX_FOLDERS: usize = 128;
/// Names that are looked at in all of them.
const MAX_NAMES: usize = 8_192;

/// Folders whose nodes every container has of its own, or that name nodes a second time by number.
const OTHER_FOLDERS: [&str; 8] =
    ["block", "char", "fd", "hugepages", "mqueue", "pts", "shm", "lxd"];
/// Nodes that are no device of the machine: every container has its own, or must not have the node's.
const NO_DEVICES: [&str; 20] = [
    "autofs",
    "btrfs-control",
    "console",
    "core",
    "cpu_dma_latency",
    "full",
    "kmem",
    "kmsg",
    "loop-control",
    "mem",
    "null",
    "port",
    "ptmx",
    "random",
    "snapshot",
    "tty",
    "udmabuf",
    "urandom",
    "userfaultfd",
    "zero",
];
/// What the names of further such nodes begin with; a number follows.
const NUMBERED: [&str; 9] = ["loop", "nbd", "ram", "tty", "vcs", "vcsa", "vcsu", "zram", "dm-"];

/// The devices below a folder, as paths below `/dev`.
#[must_use]
pub fn found_in(root: &Path) -> Vec<String> {
    let mut names = 0;
    let mut found = BTreeSet::new();
    for folder in folders(root) {
        for entry in entries(&folder).take(MAX_NAMES) {
            names += 1;
            let Some(path) = path_in(root, &entry.path()) else { continue };
            if names <= MAX_NAMES && is_device(&entry) {
                found.insert(path);
            }
        }
    }
    if found.len() > MAX_DEVICES_PER_NODE {
        tracing::warn!("{} devices; only {MAX_DEVICES_PER_NODE} are told of", found.len());
    }
    found.into_iter().take(MAX_DEVICES_PER_NODE).collect()
}

fn entries(folder: &Path) -> impl Iterator<Item = std::fs::DirEntry> + use<> {
    std::fs::read_dir(folder).into_iter().flatten().flatten()
}

/// The folder and those below it that can hold devices.
fn folders(root: &Path) -> Vec<PathBuf> {
    let mut all = vec![root.to_owned()];
    let mut level = all.clone();
    for _ in 0..MAX_DEPTH {
        let below = level.iter().flat_map(|folder| entries(folder).take(MAX_NAMES));
        let other = |name: &OsStr| name.to_str().is_none_or(|name| OTHER_FOLDERS.contains(&name));
        let next = below
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter(|entry| !other(&entry.file_name()));
        level = next.map(|entry| entry.path()).take(MAX_FOLDERS).collect();
        level.sort();
        all.extend(level.iter().cloned());
    }
    all.truncate(MAX_FOLDERS);
    all
}

fn path_in(root: &Path, path: &Path) -> Option<String> {
    let path = format!("/dev/{}", path.strip_prefix(root).ok()?.to_str()?);
    let plain = path.len() <= MAX_DEVICE_PATH_BYTES && !path.contains(char::is_control);
    plain.then_some(path)
}

/// Whether it is a device node, or a name of one that stays when it is plugged in again
/// (`/dev/serial/by-id/...`).
fn is_device(entry: &std::fs::DirEntry) -> bool {
    let Ok(kind) = entry.file_type() else { return false };
    let name = entry.file_name();
    if !name.to_str().is_some_and(is_of_the_machine) {
        return false;
    }
    if !kind.is_symlink() {
        return kind.is_char_device() || kind.is_block_device();
    }
    let Ok(target) = entry.path().canonicalize() else { return false };
    let is_device = std::fs::metadata(&target)
        .is_ok_and(|to| to.file_type().is_char_device() || to.file_type().is_block_device());
    is_device && target.file_name().and_then(OsStr::to_str).is_some_and(is_of_the_machine)
}

fn is_of_the_machine(name: &str) -> bool {
    let numbered = |begin: &&str| {
        let rest = name.strip_prefix(*begin);
        rest.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    // The old names of pseudo-terminals: ptyp0, ttyq7.
    let pty = |name: &str| {
        let rest = name.strip_prefix("pty").or_else(|| name.strip_prefix("tty"));
        matches!(
            rest.map(str::as_bytes),
            Some([b'a'..=b'e' | b'p'..=b'z', b'0'..=b'9' | b'a'..=b'f'])
        )
    };
    !NO_DEVICES.contains(&name) && !NUMBERED.iter().any(numbered) && !pty(name)
}

/// A watch over the devices of a machine.
#[derive(Debug)]
pub struct Devices {
    root: PathBuf,
    watch: Option<AsyncFd<OwnedFd>>,
}

impl Devices {
    /// Watches a folder and those below it. Where the kernel cannot, nothing is ever told.
    #[must_use]
    pub fn watch(root: &Path) -> Self {
        let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
        let watch = inotify::init(flags).map_err(std::io::Error::from).and_then(watched);
        let watch = watch
            .inspect_err(|error| tracing::warn!("devices that come later are not seen: {error}"))
            .ok();
        let devices = Self { root: root.to_owned(), watch };
        devices.watch_folders();
        devices
    }

    /// The devices that are there now. Folders that came since are watched from now on.
    #[must_use]
    pub fn found(&self) -> Vec<String> {
        self.watch_folders();
        found_in(&self.root)
    }

    /// Waits until something may have changed. May be dropped and called again at any time.
    pub async fn changed(&self) {
        let Some(watch) = &self.watch else { return std::future::pending().await };
        loop {
            let Ok(mut ready) = watch.readable().await else { return std::future::pending().await };
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut events = inotify::Reader::new(watch, &mut buffer);
            let mut any = false;
            while events.next().is_ok() {
                any = true;
            }
            ready.clear_ready();
            if any {
                return;
            }
        }
    }

    fn watch_folders(&self) {
        use inotify::WatchFlags;
        let Some(watch) = &self.watch else { return };
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ONLYDIR;
        for folder in folders(&self.root) {
            // A folder that went meanwhile is no trouble: its parent told of it.
            if let Err(error) = inotify::add_watch(watch, &folder, flags) {
                tracing::debug!("watch {}: {error}", folder.display());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    fn node(path: &Path, kind: FileType) {
        mknodat(CWD, path, kind, Mode::from(0o600), rustix::fs::makedev(1, 3)).unwrap();
    }

    #[test]
    fn names_of_the_machine_are_told_from_those_of_every_container() {
        for name in [
            "ttyUSB0",
            "ttyS0",
            "ttyAMA0",
            "ttyACM1",
            "i2c-1",
            "gpiochip0",
            "video0",
            "sda",
            "sda1",
            "mmcblk0p2",
            "fuse",
            "kvm",
            "rtc0",
            "loopback",
            "ttymxc2",
            "usb-FTDI_a-if00",
            "ramoops",
        ] {
            assert!(is_of_the_machine(name), "{name}");
        }
        for name in [
            "tty",
            "tty0",
            "tty63",
            "ttyp0",
            "ptyza",
            "loop7",
            "loop-control",
            "ram15",
            "mem",
            "null",
            "zero",
            "full",
            "vcs",
            "vcsa1",
            "vcsu2",
            "ptmx",
            "console",
            "zram0",
            "dm-3",
            "urandom",
        ] {
            assert!(!is_of_the_machine(name), "{name}");
        }
    }

    #[tokio::test]
    async fn devices_are_found_in_their_order_and_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        for folder in ["serial/by-id", "pts", "bus/usb/001"] {
            std::fs::create_dir_all(at(folder)).unwrap();
        }
        node(&at("ttyUSB0"), FileType::CharacterDevice);
        node(&at("sda"), FileType::BlockDevice);
        node(&at("bus/usb/001/002"), FileType::CharacterDevice);
        node(&at("pts/0"), FileType::CharacterDevice);
        node(&at("null"), FileType::CharacterDevice);
        std::fs::write(at("a-file"), "").unwrap();
        std::os::unix::fs::symlink("../../ttyUSB0", at("serial/by-id/usb-FTDI")).unwrap();
        std::os::unix::fs::symlink("gone", at("dangling")).unwrap();
        std::os::unix::fs::symlink("null", at("also-null")).unwrap();
        let expected =
            ["/dev/bus/usb/001/002", "/dev/sda", "/dev/serial/by-id/usb-FTDI", "/dev/ttyUSB0"];
        assert_eq!(found_in(dir.path()), expected);

        let devices = Devices::watch(dir.path());
        let quiet = Duration::from_millis(50);
        assert!(tokio::time::timeout(quiet, devices.changed()).await.is_err(), "nothing happens");
        let limit = Duration::from_secs(10);
        for (path, there) in [("snd", false), ("snd/pcmC0D0p", true), ("ttyACM0", true)] {
            if path == "snd" {
                std::fs::create_dir(at(path)).unwrap();
            } else {
                node(&at(path), FileType::CharacterDevice);
            }
            tokio::time::timeout(limit, devices.changed()).await.expect(path);
            assert_eq!(devices.found().contains(&format!("/dev/{path}")), there, "{path}");
        }
        std::fs::remove_file(at("serial/by-id/usb-FTDI")).unwrap();
        tokio::time::timeout(limit, devices.changed()).await.expect("it went");
        assert!(!devices.found().iter().any(|path| path.contains("FTDI")));
        assert!(tokio::time::timeout(quiet, devices.changed()).await.is_err(), "quiet again");
    }

    #[test]
    fn a_folder_full_of_nodes_is_cut_at_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..MAX_DEVICES_PER_NODE + 10 {
            node(&dir.path().join(format!("sensor{number:04}")), FileType::CharacterDevice);
        }
        let found = found_in(dir.path());
        assert_eq!(found.len(), MAX_DEVICES_PER_NODE);
        assert_eq!(found[0], "/dev/sensor0000");
        assert_eq!(found_in(Path::new("/nonexistent")), Vec::<String>::new());
    }
}
