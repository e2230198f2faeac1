//! What a board's image takes out of Debian's packages.
//!
//! In: a board, a folder where packages are kept. Out: [`Parts`]: the kernel with the modules that the board needs in
//! the order of loading (those of its recipe, and those that drive a device of its device trees), the trees and
//! firmware, busybox, e2fsck, certificates, and what Wi-Fi needs. The packages are unpacked in memory and nothing of
//! them is run.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::debian::apt::{self, Apt};
use crate::debian::{AptError, Package};

use super::recipe::Board;
use super::wifi::{self, Wifi};
use super::{device_tree, modules};

/// Debian's own servers. Kernels of `-security` are newer; firmware is not free.
const SOURCES: &str = "\
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main non-free-firmware
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian-security bookworm-security main non-free-firmware
";
/// What every board has beside its kernel.
const PACKAGES: [&str; 3] = ["busybox-static", "e2fsck-static", "ca-certificates"];
/// The Raspberry Pi's own first programs.
const FIRMWARE: &str = "raspi-firmware";
/// Modules that no board of ours needs, most of a kernel's bytes.
const NO_MODULES: [&str; 8] = [
    "/kernel/drivers/bluetooth/",
    "/kernel/drivers/staging/",
    "/kernel/drivers/gpu/",
    "/kernel/drivers/media/",
    "/kernel/drivers/scsi/",
    "/kernel/drivers/infiniband/",
    "/kernel/sound/",
    "/kernel/drivers/iio/",
];
const CERTIFICATES: &str = "usr/share/ca-certificates/";

/// Packages that do not make a board.
#[derive(Debug, thiserror::Error)]
pub enum PartsError {
    /// They cannot be had.
    #[error("get the packages")]
    Packages(#[source] AptError),
    /// One of them cannot be read.
    #[error("unpack {package}")]
    Unpack {
        /// Which.
        package: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// They have changed.
    #[error("none of the packages has {0}")]
    Missing(String),
    /// The archive for Wi-Fi.
    #[error("pack what Wi-Fi needs")]
    Wifi(#[source] io::Error),
}

/// What an image is made of.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) packages: Vec<Package>,
    pub(super) kernel: Vec<u8>,
    /// Paths from the root, in the order in which they are loaded.
    pub(super) modules: Vec<(String, Vec<u8>)>,
    /// What the firmware reads: names and contents of device trees and of firmware itself.
    pub(super) firmware: BTreeMap<String, Vec<u8>>,
    /// The archive that is unpacked where Wi-Fi is asked for, on boards that have it.
    pub(super) wifi: Option<Vec<u8>>,
    pub(super) busybox: Vec<u8>,
    pub(super) e2fsck: Vec<u8>,
    /// All that Debian trusts, one after the other.
    pub(super) certificates: Vec<u8>,
    /// When the newest file of all packages was made, in seconds since 1970.
    pub(super) newest: u64,
}

/// Gets them.
pub(super) fn parts(board: Board, cache: &Path) -> Result<Parts, PartsError> {
    let mut names = vec![board.kernel()];
    names.extend(PACKAGES);
    if board.is_raspberry() {
        names.push(FIRMWARE);
        names.extend(wifi::PACKAGES);
    }
    if board == Board::RaspiZero {
        names.push(wifi::ATOMIC);
    }
    let packages = fetch(board, cache, &names)?;
    let mut gathering =
        Gathering { board, parts: Parts::default(), wifi: Wifi::default(), found: BTreeMap::new() };
    for (package, deb) in packages {
        let files = apt::files(&deb).map_err(PartsError::Packages)?;
        gathering
            .package(&files)
            .map_err(|source| PartsError::Unpack { package: package.name.clone(), source })?;
        gathering.parts.packages.push(package);
    }
    gathering.finish()
}

/// Packages for a board's processor and their files, without what they depend on, out of `cache` or from Debian.
///
/// # Errors
/// [`PartsError::Packages`] if one cannot be had.
pub fn fetch(
    board: Board,
    cache: &Path,
    names: &[&str],
) -> Result<Vec<(Package, PathBuf)>, PartsError> {
    let apt = Apt::open_with(cache, board.architecture(), SOURCES).map_err(PartsError::Packages)?;
    apt.fetch_alone(names).map_err(PartsError::Packages)
}

struct Gathering {
    board: Board,
    parts: Parts,
    wifi: Wifi,
    /// Modules by their names, with their paths.
    found: BTreeMap<String, (String, Vec<u8>)>,
}

impl Gathering {
    fn package(&mut self, files: &[u8]) -> io::Result<()> {
        for entry in tar::Archive::new(files).entries()? {
            let mut entry = entry?;
            let path = entry.path()?.to_string_lossy().trim_start_matches("./").to_owned();
            if let Some(target) = entry.link_name()? {
                self.wifi.link(&path, &target.to_string_lossy());
                continue;
            }
            if !entry.header().entry_type().is_file() {
                continue;
            }
            self.parts.newest = self.parts.newest.max(entry.header().mtime()?);
            if let Some(place) = self.place(&path) {
                entry.read_to_end(place)?;
            }
        }
        Ok(())
    }

    /// Where the content of a file belongs, if it is needed.
    fn place(&mut self, path: &str) -> Option<&mut Vec<u8>> {
        let file = path.rsplit_once('/').map_or(path, |(_, file)| file);
        let parts = &mut self.parts;
        match path {
            "bin/busybox" | "usr/bin/busybox" => return Some(&mut parts.busybox),
            "sbin/e2fsck.static" | "usr/sbin/e2fsck.static" => return Some(&mut parts.e2fsck),
            _ if path.starts_with("boot/vmlinuz-") => return Some(&mut parts.kernel),
            _ if path.starts_with(CERTIFICATES) => return Some(&mut parts.certificates),
            _ => {}
        }
        let is_tree = file.strip_suffix(".dtb").is_some_and(|name| {
            self.board.device_trees().iter().any(|beginning| name.starts_with(beginning))
        });
        let is_firmware = path.starts_with("usr/lib/raspi-firmware/") && is_first_program(file);
        if is_tree || is_firmware {
            return Some(parts.firmware.entry(file.to_owned()).or_default());
        }
        if NO_MODULES.iter().any(|folder| path.contains(folder)) {
            return None;
        }
        let Some(name) = modules::of_path(path) else { return self.wifi.place(path) };
        let (_, content) = self.found.entry(name).or_insert_with(|| (path.to_owned(), Vec::new()));
        Some(content)
    }

    fn finish(self) -> Result<Parts, PartsError> {
        let Self { board, mut parts, wifi, mut found } = self;
        for (content, what) in [
            (&parts.kernel, "a kernel"),
            (&parts.busybox, "busybox"),
            (&parts.e2fsck, "e2fsck.static"),
            (&parts.certificates, "certificates"),
        ] {
            if content.is_empty() {
                return Err(PartsError::Missing(what.to_owned()));
            }
        }
        let drivers = drivers(&found, &parts.firmware);
        let wanted = board.modules().map(str::to_owned).chain(drivers);
        let needs = |name: &str| found.get(name).map(|(_, content)| modules::needs(content));
        let always = modules::in_order(wanted, needs);
        let with_wifi = modules::in_order(board.wifi_modules().map(str::to_owned), needs);
        let mut take = |order: &[String]| -> Vec<_> {
            order.iter().filter_map(|name| found.remove(name)).collect()
        };
        parts.modules = take(&always);
        let modules = take(&with_wifi);
        if !modules.is_empty() {
            parts.wifi = Some(wifi.archive(&modules)?);
        }
        Ok(parts)
    }
}

/// The modules for the devices of the trees.
fn drivers(
    found: &BTreeMap<String, (String, Vec<u8>)>,
    firmware: &BTreeMap<String, Vec<u8>>,
) -> Vec<String> {
    let trees = firmware.iter().filter(|(name, _)| name.ends_with(".dtb"));
    let devices: BTreeSet<_> = trees.flat_map(|(_, tree)| device_tree::compatible(tree)).collect();
    let drives = |content| modules::devices(content).any(|device| devices.contains(&device));
    let drivers = found.iter().filter(|(_, (_, content))| drives(content));
    drivers.map(|(name, _)| name.clone()).collect()
}

/// Of the firmware's files those for a board without camera or debugger.
fn is_first_program(file: &str) -> bool {
    const NAMES: [&str; 7] = [
        "bootcode.bin",
        "start.elf",
        "start_cd.elf",
        "start4.elf",
        "fixup.dat",
        "fixup_cd.dat",
        "fixup4.dat",
    ];
    NAMES.contains(&file)
}
