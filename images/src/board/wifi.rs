//! Wi-Fi, packed: what a board unpacks only where its settings ask for it.
//!
//! In: files of Debian's packages, one by one. Out: an archive with `wpa_supplicant`, the libraries that it needs and their
//! loader, the modules of the kernel in the order of loading, what the chips of a Raspberry Pi run, and which country
//! allows what on the air. `images/boards/wifi` uses it.

use std::collections::BTreeMap;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::packages::PartsError;
use crate::layer::Layer;

/// wpa_supplicant and all that it or its libraries need, and what the radio needs.
pub(super) const PACKAGES: [&str; 17] = [
    "wpasupplicant",
    "libc6",
    "libcap2",
    "libdbus-1-3",
    "libgcrypt20",
    "libgpg-error0",
    "liblz4-1",
    "liblzma5",
    "libnl-3-200",
    "libnl-genl-3-200",
    "libnl-route-3-200",
    "libpcsclite1",
    "libssl3",
    "libsystemd0",
    "libzstd1",
    "firmware-brcm80211",
    "wireless-regdb",
];
/// What these have for others is left out.
const LIBRARIES: [&str; 16] = [
    "libc.so.6",
    "libcap.so.2",
    "libcrypto.so.3",
    "libdbus-1.so.3",
    "libgcrypt.so.20",
    "libgpg-error.so.0",
    "liblz4.so.1",
    "liblzma.so.5",
    "libm.so.6",
    "libnl-3.so.200",
    "libnl-genl-3.so.200",
    "libnl-route-3.so.200",
    "libpcsclite.so.1",
    "libssl.so.3",
    "libsystemd.so.0",
    "libzstd.so.1",
];
/// Only where the processor has no instructions for it: the package and its library.
pub(super) const ATOMIC: &str = "libatomic1";
const ATOMIC_LIBRARY: &str = "libatomic.so.1";
const LOADER: &str = "ld-linux";
const PROGRAM: &str = "sbin/wpa_supplicant";
/// The chips of the Raspberry Pi Zero W and 3 B, and of the 3 A+, 3 B+ and 4 B.
const CHIPS: [&str; 2] = ["brcmfmac43430-sdio.", "brcmfmac43455-sdio."];
/// Of the settings of a chip those that are for a Raspberry Pi.
const MODELS: &str = "raspberrypi,";
const RULES: [(&str, &str); 2] = [
    ("regulatory.db", "lib/firmware/regulatory.db-debian"),
    ("regulatory.db.p7s", "lib/firmware/regulatory.db.p7s-debian"),
];

/// Files and links of packages, by their paths.
#[derive(Debug, Default)]
pub(super) struct Wifi {
    files: BTreeMap<String, Vec<u8>>,
    links: BTreeMap<String, String>,
}

impl Wifi {
    /// Where the content of a file belongs, if it may be needed.
    pub(super) fn place(&mut self, path: &str) -> Option<&mut Vec<u8>> {
        let needed = path.ends_with(PROGRAM)
            || path.starts_with("lib/firmware/")
            || is_library(path) && !path.contains("/gconv/");
        needed.then(|| self.files.entry(path.to_owned()).or_default())
    }

    /// A symbolic link.
    pub(super) fn link(&mut self, path: &str, target: &str) {
        let (folder, _) = path.rsplit_once('/').unwrap_or_default();
        let (folder, target) = match target.strip_prefix("../") {
            Some(target) => (folder.rsplit_once('/').unwrap_or_default().0, target),
            None => (folder, target),
        };
        self.links.insert(path.to_owned(), format!("{folder}/{target}"));
    }

    /// The archive.
    pub(super) fn archive(&self, modules: &[(String, Vec<u8>)]) -> Result<Vec<u8>, PartsError> {
        const EXECUTABLE: u32 = 0o755;
        const TEXT: u32 = 0o644;
        let mut layer = Layer::new();
        layer.folder("lib", EXECUTABLE).folder("firmware", EXECUTABLE);
        layer.folder("firmware/brcm", EXECUTABLE);
        layer.file("wpa_supplicant", EXECUTABLE, self.find("wpa_supplicant", PROGRAM)?);
        layer.file("ld.so", EXECUTABLE, self.loader()?);
        for name in LIBRARIES {
            layer.file(&format!("lib/{name}"), TEXT, self.library(name)?);
        }
        if let Ok(atomic) = self.library(ATOMIC_LIBRARY) {
            layer.file(&format!("lib/{ATOMIC_LIBRARY}"), TEXT, atomic);
        }
        for (name, path) in RULES {
            layer.file(&format!("firmware/{name}"), TEXT, self.find(name, path)?);
        }
        for path in self.firmware() {
            let (_, name) = path.rsplit_once('/').unwrap_or_default();
            layer.file(&format!("firmware/brcm/{name}"), TEXT, self.find(name, path)?);
        }
        let mut list = String::new();
        for (path, content) in modules {
            let (_, name) = path.rsplit_once('/').unwrap_or_default();
            list += &format!("{name}\n");
            layer.file(name, TEXT, content);
        }
        layer.file("modules", TEXT, list.as_bytes());
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        let packed = gzip.write_all(&layer.bytes()).and_then(|()| gzip.finish());
        packed.map_err(PartsError::Wifi)
    }

    /// What the chips are told, by its paths.
    fn firmware(&self) -> impl Iterator<Item = &str> {
        let paths = self.files.keys().chain(self.links.keys()).map(String::as_str);
        paths.filter(|path| {
            let name = path.strip_prefix("lib/firmware/brcm/").unwrap_or_default();
            let kind = CHIPS.iter().find_map(|chip| name.strip_prefix(chip));
            kind.is_some_and(|kind| kind == "bin" || kind == "clm_blob" || kind.starts_with(MODELS))
        })
    }

    fn library(&self, name: &str) -> Result<&[u8], PartsError> {
        self.find(name, &format!("/{name}"))
    }

    fn loader(&self) -> Result<&[u8], PartsError> {
        let mut files = self.files.iter();
        let loader = files.find(|(path, _)| file_name(path).starts_with(LOADER));
        loader.map(|(_, content)| content.as_slice()).ok_or(PartsError::Missing(LOADER.to_owned()))
    }

    /// The content of the file or the link whose path ends so.
    fn find(&self, name: &str, end: &str) -> Result<&[u8], PartsError> {
        let links = self.links.iter().find(|(path, _)| path.ends_with(end));
        // Of the links of Debian's packages here none leads to another one, but those of firmware.
        let path = links.map_or(end, |(_, target)| target);
        let path = self.links.get(path).map_or(path, String::as_str);
        let file = self.files.iter().find(|(it, _)| it.ends_with(path));
        file.map(|(_, content)| content.as_slice())
            .ok_or_else(|| PartsError::Missing(name.to_owned()))
    }
}

fn is_library(path: &str) -> bool {
    let name = file_name(path);
    let mut all = LIBRARIES.iter().chain(&[ATOMIC_LIBRARY]);
    (path.starts_with("lib/") || path.starts_with("usr/lib/"))
        && (name.starts_with(LOADER) || all.any(|library| name.starts_with(library)))
}

fn file_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}
