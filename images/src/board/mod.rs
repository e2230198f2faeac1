//! Images of boards: what is written to a card and boots.
//!
//! In: a kind of board, its agent, a folder where Debian's packages are kept. Out: a file with a partition table, a boot
//! partition and a state partition, made without root, loop devices or mounts; the same versions of
//! packages and the same agent give the same bytes. What is in an image is in `images/boards/`, and
//! `docs/boards.md` says how it works.
//!
//! [`build`] makes one, [`personalize`] changes its `limpet.toml`, [`boot_file`] reads what the firmware
//! would.

mod boot;
mod device_tree;
mod initramfs;
mod modules;
mod packages;
mod part_file;
mod partitions;
mod recipe;
pub mod settings;
mod wifi;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use initramfs::Initramfs;
use packages::Parts;
use part_file::PartFile;
use partitions::{BOOT, IMAGE_BYTES, STATE};

pub use packages::{PartsError, fetch};
pub use recipe::{Board, UnknownBoard};

use crate::debian::Package;

/// What people change of a board.
pub const SETTINGS: &str = "limpet.toml";
/// The kernel, on boards without firmware of their own.
pub const KERNEL: &str = "vmlinuz";
/// What the kernel boots into.
pub const INITRAMFS: &str = "initrd.img";
/// What the kernel is told.
pub const COMMAND_LINE: &str = "cmdline.txt";
/// What Wi-Fi needs, on boards that have it.
pub const WIFI: &str = "wifi.tgz";

/// The same for all cards of Limpet: nothing finds a file system by it.
const VOLUME: u32 = 0x4c69_6d70;
const STATE_ID: &str = "4c696d70-6574-4000-8000-737461746500";
/// Whatever this machine's own settings for new file systems are. Blocks of 4 KiB are those of cards; the file
/// system may grow to 256 GiB without a second look.
const STATE_OPTIONS: [&str; 15] = [
    "-q",
    "-F",
    "-t",
    "ext4",
    "-b",
    "4096",
    "-I",
    "256",
    "-m",
    "1",
    "-O",
    "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum",
    "-L",
    "limpet-state",
    "-U",
];
const MAX_GROWN_BLOCKS: u64 = (256 << 30) / 4096;
/// What the Raspberry Pi's firmware is told.
const CONFIG: &str = "config.txt";

/// An image that cannot be made or changed.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    /// Its packages.
    #[error("gather the parts of {board}")]
    Parts {
        /// For which board.
        board: Board,
        /// Why not.
        #[source]
        source: PartsError,
    },
    /// A file.
    #[error("{attempt} {}", path.display())]
    Access {
        /// What was tried.
        attempt: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// mke2fs did not make the state's file system.
    #[error("make the file system of the state with mke2fs: {0}")]
    State(String),
    /// A part is too large for its place.
    #[error("make the boot partition")]
    Boot(#[source] io::Error),
    /// `limpet.toml` cannot be changed.
    #[error("change the settings")]
    Settings(#[source] settings::SettingError),
}

/// What was made.
#[derive(Debug)]
pub struct Built {
    /// The packages in it.
    pub packages: Vec<Package>,
    /// Bytes of what the kernel boots into.
    pub initramfs_bytes: usize,
    /// Bytes of the kernel.
    pub kernel_bytes: usize,
}

/// Makes the image of a board. `agent` is the program's bytes, `cache` where packages are kept.
///
/// # Errors
/// What stands in the way.
pub fn build(board: Board, agent: &[u8], cache: &Path, image: &Path) -> Result<Built, BoardError> {
    let parts =
        packages::parts(board, cache).map_err(|source| BoardError::Parts { board, source })?;
    let initramfs = root(&parts, agent).archive().map_err(BoardError::Boot)?;
    let kernel_bytes = parts.kernel.len();
    let command_line = format!("{}\n", board.command_line()).into_bytes();
    let mut files: BTreeMap<String, Vec<u8>> = [
        (SETTINGS.to_owned(), include_bytes!("../../boards/limpet.toml").to_vec()),
        (COMMAND_LINE.to_owned(), command_line),
        (KERNEL.to_owned(), parts.kernel),
        (INITRAMFS.to_owned(), initramfs.clone()),
    ]
    .into();
    if board.is_raspberry() {
        files.insert(CONFIG.to_owned(), raspberry_config(board).into_bytes());
        files.extend(parts.firmware);
    }
    if let Some(archive) = parts.wifi {
        files.insert(WIFI.to_owned(), archive);
    }
    let bytes = usize::try_from(BOOT.bytes).unwrap_or(usize::MAX);
    let listed = files.iter().map(|(path, content)| (path.as_str(), content.as_slice()));
    let partition = boot::make(bytes, VOLUME, listed).map_err(BoardError::Boot)?;

    let access =
        |attempt| move |source| BoardError::Access { attempt, path: image.to_owned(), source };
    let file = create(image).map_err(access("write"))?;
    part_file::write_sparse(&file, 0, &partitions::table(VOLUME)).map_err(access("write"))?;
    part_file::write_sparse(&file, BOOT.first, &partition).map_err(access("write"))?;
    make_state(image)?;
    Ok(Built { packages: parts.packages, initramfs_bytes: initramfs.len(), kernel_bytes })
}

fn create(image: &Path) -> io::Result<File> {
    if let Some(folder) = image.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(true).open(image)?;
    file.set_len(IMAGE_BYTES)?;
    Ok(file)
}

fn make_state(image: &Path) -> Result<(), BoardError> {
    let mut mke2fs = Command::new("mke2fs");
    // Debian has it where only root looks.
    let path = std::env::var("PATH").unwrap_or_default();
    mke2fs.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    mke2fs.env("MKE2FS_CONFIG", "/dev/null").env("E2FSPROGS_FAKE_TIME", "1");
    let extended = format!(
        "offset={},hash_seed={STATE_ID},resize={MAX_GROWN_BLOCKS},root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0",
        STATE.first
    );
    mke2fs.args(STATE_OPTIONS).args([STATE_ID, "-E", &extended]);
    mke2fs.arg(image).arg(format!("{}k", STATE.bytes / 1024));
    let output = mke2fs.output().map_err(|error| BoardError::State(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(BoardError::State(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Everything that is in memory when the board runs.
fn root(parts: &Parts, agent: &[u8]) -> Initramfs {
    const PROGRAM: u32 = 0o755;
    const TEXT: u32 = 0o644;
    let mut root = Initramfs::default();
    root.file("bin/busybox", PROGRAM, &parts.busybox).link("bin/sh", "busybox");
    root.link("sbin/init", "/bin/busybox");
    root.file("sbin/limpet-agent", PROGRAM, agent);
    root.file("sbin/e2fsck.static", PROGRAM, &parts.e2fsck);
    root.file("init", PROGRAM, include_bytes!("../../boards/init"));
    root.file("etc/inittab", TEXT, include_bytes!("../../boards/inittab"));
    let scripts: [(&str, &[u8]); 9] = [
        ("start", include_bytes!("../../boards/start")),
        ("stop", include_bytes!("../../boards/stop")),
        ("network", include_bytes!("../../boards/network")),
        ("wifi", include_bytes!("../../boards/wifi")),
        ("dhcp", include_bytes!("../../boards/dhcp")),
        ("agent", include_bytes!("../../boards/agent")),
        ("watchdog", include_bytes!("../../boards/watchdog")),
        ("clock", include_bytes!("../../boards/clock")),
        ("console", include_bytes!("../../boards/console")),
    ];
    for (name, script) in scripts {
        root.file(&format!("etc/limpet/{name}"), PROGRAM, script);
    }
    let mut list = String::new();
    for (path, content) in &parts.modules {
        list += &format!("/{path}\n");
        root.file(path, TEXT, content);
    }
    root.file("etc/limpet/modules", TEXT, list.as_bytes());
    root.file("etc/limpet/built", TEXT, format!("{}\n", parts.newest).as_bytes());
    root.file("etc/limpet/packages", TEXT, package_list(&parts.packages).as_bytes());
    root.file("etc/ssl/certs/ca-certificates.crt", TEXT, &parts.certificates);
    root.file("etc/passwd", TEXT, b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534::/:\n");
    root.file("etc/group", TEXT, b"root:x:0:\nnogroup:x:65534:\n");
    root.link("etc/hosts", "/run/board/hosts");
    root.link("etc/resolv.conf", "/run/board/resolv.conf");
    root
}

fn package_list(packages: &[Package]) -> String {
    let line = |it: &Package| format!("{} {} {}\n", it.name, it.version, it.architecture);
    packages.iter().map(line).collect()
}

/// <https://www.raspberrypi.com/documentation/computers/config_txt.html>
fn raspberry_config(board: Board) -> String {
    let bits = if board == Board::RaspiArm64 { "arm_64bit=1\n" } else { "" };
    format!(
        "# Read by the firmware before anything else.\n{bits}kernel={KERNEL}\ninitramfs {INITRAMFS} followkernel\n\
         enable_uart=1\ngpu_mem=16\ndisable_splash=1\n# The device trees are those of Debian's kernel.\nupstream_kernel=1\n"
    )
}

/// Changes the settings of an image: `change` gets the text of `limpet.toml` and gives the new one.
///
/// # Errors
/// If the image cannot be read or written, or the settings cannot be made.
pub fn personalize(
    image: &Path,
    change: impl FnOnce(&str) -> Result<String, settings::SettingError>,
) -> Result<(), BoardError> {
    let access =
        |attempt| move |source| BoardError::Access { attempt, path: image.to_owned(), source };
    let file = OpenOptions::new().read(true).write(true).open(image).map_err(access("open"))?;
    let text = boot::read(PartFile::new(&file, BOOT), SETTINGS)
        .map_err(access("find limpet.toml on the boot partition of"))?;
    let changed = change(&String::from_utf8_lossy(&text)).map_err(BoardError::Settings)?;
    boot::replace(PartFile::new(&file, BOOT), SETTINGS, changed.as_bytes())
        .map_err(access("write limpet.toml to"))?;
    file.sync_all().map_err(access("write"))
}

/// A file of the boot partition.
///
/// # Errors
/// If it is not there.
pub fn boot_file(image: &Path, path: &str) -> Result<Vec<u8>, BoardError> {
    let access = |source| BoardError::Access {
        attempt: "read the boot partition of",
        path: image.to_owned(),
        source,
    };
    let file = File::open(image).map_err(access)?;
    boot::read(PartFile::new(&file, BOOT), path).map_err(access)
}
