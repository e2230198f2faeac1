//! A board that is emulated: its image as `limpet flash` makes it, in QEMU, with a network that ends on this
//! machine's loopback device.
//!
//! QEMU and the agent come from `images/cross`; `tests/boards` fetches and builds them before it starts these
//! tests. QEMU does not run a boot loader here: it gets the kernel out of the image's boot partition.

mod air;
mod fleet;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use limpet_images::board::{self, Board};

use crate::process::{Running, program};
use crate::site::Site;
pub use air::{AccessPoint, Air};
pub use fleet::BoardFleet;

/// How long a test waits for a board: every instruction of it is emulated, and the machine is shared.
pub const BOARD_PATIENCE: Duration = Duration::from_secs(400);
/// How a board names the machine that it is emulated on.
pub const HOST: &str = "10.0.2.2";
/// The device trees of the Raspberry Pis that QEMU emulates.
const RASPBERRY_TREE: &str = "bcm2837-rpi-3-b.dtb";
const ZERO_TREE: &str = "bcm2835-rpi-zero.dtb";
/// What QEMU's has not of a Raspberry Pi Zero.
const ZERO_LACKS: &str = " initcall_blacklist=bcm2835_power_driver_init";
/// How long a read from the console waits.
const CONSOLE_WAIT: Duration = Duration::from_millis(200);
/// How long a command in the shell may take before it is typed again.
const SHELL_PATIENCE: Duration = Duration::from_secs(20);

/// Whether a board has a network.
#[derive(Debug, Clone, Copy)]
pub enum Wire<'site> {
    /// It reaches the ports of this machine's loopback device at [`HOST`].
    Plugged,
    /// It is at a site with other boards: the site, and the device there that [`Site::add_board`] made.
    Site(&'site Site, &'site str),
    /// There is no device.
    None,
}

/// One board with its card.
#[derive(Debug)]
pub struct EmulatedBoard {
    kind: Board,
    folder: PathBuf,
    qemu: Option<Running>,
    shells: u32,
    counts: bool,
    /// What is in its memory at each start beside what its image has: an archive in the format of an initramfs.
    more: Vec<u8>,
}

impl EmulatedBoard {
    /// Makes a card with the image of a board, told what `settings` (options of `limpet flash
    /// personalize`) say and that a root shell is on the serial line.
    ///
    /// # Panics
    /// When the image cannot be made.
    #[must_use]
    pub fn make(kind: Board, folder: &Path, settings: &[&str]) -> Self {
        fs::create_dir_all(folder).unwrap();
        let board = Self {
            kind,
            folder: folder.to_owned(),
            qemu: None,
            shells: 0,
            counts: false,
            more: Vec::new(),
        };
        let image = board.card();
        let image = image.to_str().unwrap();
        let agent = newest_agent(kind.target());
        let cache = package_cache();
        limpet(&[
            "flash",
            "build",
            "--board",
            &kind.to_string(),
            "--agent",
            agent.to_str().unwrap(),
            "--cache",
            cache.to_str().unwrap(),
            "--output",
            image,
        ]);
        let mut quiet = vec!["--set", "board.console=true", "--set", "board.time-servers=[]"];
        if matches!(kind, Board::RaspiArm64 | Board::RaspiZero) {
            // Whoever starts the emulated watchdog of this chip is restarted at once.
            quiet.extend(["--set", "board.watchdog-seconds=0"]);
        }
        limpet(&[&["flash", "personalize", image], quiet.as_slice(), settings].concat());
        board
    }

    /// The file that is its card.
    #[must_use]
    pub fn card(&self) -> PathBuf {
        self.folder.join("card.img")
    }

    /// From the next start on its clock counts instructions of one processor, one a nanosecond, and leaps over
    /// times in which there is nothing to do: what programs take does not depend on the machine below.
    pub fn count_instructions(&mut self) {
        self.counts = true;
    }

    /// Switches the power on.
    ///
    /// # Panics
    /// When QEMU cannot be started.
    pub fn switch_on(&mut self, wire: Wire<'_>) {
        for name in [board::KERNEL, board::INITRAMFS] {
            let mut content = board::boot_file(&self.card(), name).unwrap();
            if name == board::INITRAMFS {
                // Another archive begins where four bytes do.
                content.resize(content.len().next_multiple_of(4), 0);
                content.extend_from_slice(&self.more);
            }
            fs::write(self.folder.join(name), content).unwrap();
        }
        let told = board::boot_file(&self.card(), board::COMMAND_LINE).unwrap();
        let mut told = String::from_utf8(told).unwrap().trim().to_owned();
        if self.kind == Board::RaspiZero {
            told += ZERO_LACKS;
        }
        drop(fs::remove_file(self.console_socket()));
        drop(fs::remove_file(self.console_log()));
        let mut command = self.machine(wire);
        command.args(["-display", "none", "-no-user-config", "-nodefaults"]);
        command.arg("-kernel").arg(self.folder.join(board::KERNEL));
        command.arg("-initrd").arg(self.folder.join(board::INITRAMFS));
        command.arg("-append").arg(told);
        command.arg("-chardev").arg(format!(
            "socket,id=line,path={},server=on,wait=off,logfile={}",
            self.console_socket().display(),
            self.console_log().display()
        ));
        self.plug_in(&mut command, wire);
        self.qemu = Some(Running::start("qemu", &self.folder, &mut command));
    }

    /// Gives the machine its serial line, its card and its network.
    fn plug_in(&self, command: &mut Command, wire: Wire<'_>) {
        let card = self.card().display().to_string();
        let drive = command.arg("-drive");
        let tree = match self.kind {
            Board::RaspiArm64 => Some(RASPBERRY_TREE),
            Board::RaspiZero => Some(ZERO_TREE),
            Board::VirtArm64 | Board::VirtAmd64 => None,
        };
        let network = if let Some(tree) = tree {
            drive.arg(format!("if=sd,format=raw,file={card}"));
            let path = self.folder.join(tree);
            fs::write(&path, board::boot_file(&self.card(), tree).unwrap()).unwrap();
            command.arg("-dtb").arg(path);
            if self.kind == Board::RaspiArm64 {
                // Its first serial line is that of Bluetooth.
                command.args(["-serial", "null"]);
            }
            "usb-net,netdev=net"
        } else {
            drive.arg(format!("if=none,id=card,format=raw,file={card}"));
            command.args(["-device", "virtio-blk-pci,drive=card"]);
            "virtio-net-pci,netdev=net,romfile="
        };
        command.args(["-serial", "chardev:line"]);
        let (end, hardware_address) = match wire {
            Wire::Plugged => ("user,id=net,ipv6=off".to_owned(), String::new()),
            Wire::Site(_, port) => {
                let end = format!("tap,id=net,ifname={port},script=no,downscript=no");
                let number = port.trim_start_matches(|it: char| !it.is_ascii_digit());
                (end, format!(",mac=52:54:00:6c:69:{number:0>2}"))
            }
            Wire::None => return,
        };
        command.args(["-netdev", &end, "-device", &(network.to_owned() + &hardware_address)]);
    }

    /// QEMU with the processor and the memory of the board.
    fn machine(&self, wire: Wire<'_>) -> Command {
        let (program, options): (_, &[&str]) = match self.kind {
            Board::VirtArm64 => {
                let options = &["-M", "virt", "-cpu", "cortex-a72", "-m", "512", "-smp", "2"];
                ("qemu-system-aarch64", options)
            }
            Board::VirtAmd64 => {
                ("qemu-system-x86_64", &["-M", "q35", "-cpu", "max", "-m", "512", "-smp", "2"])
            }
            Board::RaspiArm64 => ("qemu-system-aarch64", &["-M", "raspi3b"]),
            Board::RaspiZero => ("qemu-system-arm", &["-M", "raspi0"]),
        };
        let root = cross().join("qemu");
        let program = root.join("usr/bin").join(program);
        let mut command = match wire {
            Wire::Site(site, _) => site.command("hub", &program),
            Wire::Plugged | Wire::None => Command::new(program),
        };
        let libraries = ["usr/lib", "lib"].map(|it| root.join(it).join("x86_64-linux-gnu"));
        command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries).unwrap());
        for folder in ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"] {
            command.arg("-L").arg(root.join(folder));
        }
        command.args(options);
        if self.counts {
            command.args(["-smp", "1", "-icount", "shift=0,sleep=off"]);
        }
        command
    }

    /// Pulls the plug.
    ///
    /// # Panics
    /// When it is not on.
    pub fn pull_the_plug(&mut self) {
        self.qemu.take().expect("the board is on").kill();
    }

    /// Everything that the board has written to its serial line since it was switched on.
    #[must_use]
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.console_log()).unwrap_or_default()).into_owned()
    }

    /// Waits for a word on the serial line.
    pub fn wait_console(&self, word: &str) {
        wait_for_board(&format!("{word:?} on the serial line"), || {
            self.console().contains(word).then_some(())
        });
    }

    /// Runs a command in the root shell on the serial line and gives what it wrote. The command may be run
    /// more than once: what is typed before the shell is there is lost.
    ///
    /// # Panics
    /// When the shell does not answer.
    pub fn shell(&mut self, command: &str) -> String {
        wait_for_board(&format!("the answer to {command}"), || {
            self.shells += 1;
            self.try_shell(command, self.shells)
        })
    }

    fn try_shell(&self, command: &str, number: u32) -> Option<String> {
        let mut line = UnixStream::connect(self.console_socket()).ok()?;
        line.set_read_timeout(Some(CONSOLE_WAIT)).unwrap();
        // The line gives back what is typed: the quotes make that differ from what is written.
        let typed = format!("\necho BEGIN''{number}; {command}; echo END''{number}\n");
        line.write_all(typed.as_bytes()).ok()?;
        let (start, end) = (format!("BEGIN{number}\r\n"), format!("END{number}\r\n"));
        let mut heard = Vec::new();
        let begin = Instant::now();
        while begin.elapsed() < SHELL_PATIENCE {
            let mut buffer = [0; 4096];
            if let Ok(count) = line.read(&mut buffer) {
                heard.extend_from_slice(&buffer[..count]);
            }
            let text = String::from_utf8_lossy(&heard).into_owned();
            let written = text.split_once(&start).and_then(|(_, rest)| rest.split_once(&end));
            if let Some((written, _)) = written {
                return Some(written.replace('\r', ""));
            }
        }
        None
    }

    fn console_log(&self) -> PathBuf {
        self.folder.join("console.log")
    }

    /// The socket that is its serial line.
    #[must_use]
    pub fn console_socket(&self) -> PathBuf {
        self.folder.join("console.sock")
    }
}

impl Drop for EmulatedBoard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- {} wrote:\n{}", self.kind, self.console());
        }
    }
}

/// Waits as one has to for a board.
///
/// # Panics
/// When it does not come. The message says what was waited for.
pub fn wait_for_board<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(begin.elapsed() < BOARD_PATIENCE, "waited {BOARD_PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The agent for a target that was built last, to ship or for tests.
///
/// # Panics
/// When none is built.
#[must_use]
pub fn newest_agent(target: &str) -> PathBuf {
    let built = ["", "quick"].map(|kind| cross().join(kind).join(target).join("limpet-agent"));
    let when = |path: &PathBuf| fs::metadata(path).and_then(|it| it.modified()).ok();
    let newest = built.into_iter().max_by_key(when).unwrap();
    assert!(newest.exists(), "{} is not built: tests/boards", newest.display());
    newest
}

/// A program of a board's image, for images of containers that run on it.
///
/// # Panics
/// When the package is not there, which [`EmulatedBoard::make`] fetches.
#[must_use]
pub fn busybox(architecture: &str) -> Vec<u8> {
    let archives = package_cache().join(architecture).join("archives");
    let packages = fs::read_dir(&archives).unwrap().flatten();
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let package = packages
        .map(|entry| entry.path())
        .find(|path| name(path).starts_with("busybox-static_"))
        .expect("busybox-static was fetched for the board");
    let folder = tempfile::tempdir().unwrap();
    unpack(&package, folder.path());
    fs::read(folder.path().join("bin/busybox")).unwrap()
}

fn unpack(package: &Path, folder: &Path) {
    let mut unpack = Command::new("dpkg-deb");
    let done = unpack.arg("--extract").arg(package).arg(folder).status().unwrap();
    assert!(done.success(), "{}", package.display());
}

fn limpet(arguments: &[&str]) {
    let output = Command::new(program("limpet")).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "limpet {arguments:?}: {said}");
}

/// Where packages of boards are kept.
#[must_use]
pub fn package_cache() -> PathBuf {
    target().join("debian/boards")
}

/// The folder of what is built.
///
/// # Panics
/// When the programs are not built.
#[must_use]
pub fn target() -> PathBuf {
    program("limpet").parent().and_then(Path::parent).unwrap().to_owned()
}

/// What `images/cross` fetched and built.
#[must_use]
pub fn cross() -> PathBuf {
    target().join("cross")
}
