//! What a kernel boots into: an archive of files in the format that Linux unpacks into memory.
//!
//! In: folders, files and links. Out: the bytes of a gzip file, the same for the same content whatever the
//! order in which it came. The format is `newc` of cpio (Documentation/driver-api/early-userspace/buffer-format.rst
//! of Linux): a header of thirteen numbers in eight hexadecimal digits, the name, the content, each padded
//! to four bytes. Owner and time are always root and 0.

use std::collections::BTreeMap;
use std::io;

use flate2::Compression;
use flate2::write::GzEncoder;

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const LINK_MODE: u32 = 0o777;
const FOLDER_MODE: u32 = 0o755;
const LAST: &str = "TRAILER!!!";

/// Files by their path, without a slash in front.
#[derive(Debug, Default)]
pub(super) struct Initramfs {
    entries: BTreeMap<String, (u32, Vec<u8>)>,
}

impl Initramfs {
    /// Adds a file, and the folders that it is in.
    pub(super) fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> &mut Self {
        self.add(path, FILE | mode, content)
    }

    /// Adds a symbolic link.
    pub(super) fn link(&mut self, path: &str, target: &str) -> &mut Self {
        self.add(path, LINK | LINK_MODE, target.as_bytes())
    }

    fn add(&mut self, path: &str, mode: u32, content: &[u8]) -> &mut Self {
        for (at, _) in path.match_indices('/') {
            let folder = (FOLDER | FOLDER_MODE, Vec::new());
            self.entries.entry(path[..at].to_owned()).or_insert(folder);
        }
        self.entries.insert(path.to_owned(), (mode, content.to_vec()));
        self
    }

    /// The archive.
    pub(super) fn archive(&self) -> io::Result<Vec<u8>> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        let mut inode = 0;
        for (path, (mode, content)) in &self.entries {
            inode += 1;
            write_entry(&mut gzip, (inode, *mode), path, content)?;
        }
        write_entry(&mut gzip, (0, 0), LAST, &[])?;
        gzip.finish()
    }
}

fn write_entry(
    out: &mut impl io::Write,
    (inode, mode): (u32, u32),
    path: &str,
    content: &[u8],
) -> io::Result<()> {
    let too_large = |_| io::Error::new(io::ErrorKind::FileTooLarge, path.to_owned());
    let size = u32::try_from(content.len()).map_err(too_large)?;
    let name = u32::try_from(path.len() + 1).map_err(too_large)?;
    let links = if mode & FOLDER == FOLDER { 2 } else { 1 };
    // inode, mode, user, group, links, time, size, device, device of a device, name, checksum
    let numbers = [inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name, 0];
    out.write_all(b"070701")?;
    for number in numbers {
        write!(out, "{number:08x}")?;
    }
    write!(out, "{path}\0")?;
    // The magic number and the name are of 6 and any bytes, the numbers of 104.
    pad(out, 110 + path.len() + 1)?;
    out.write_all(content)?;
    pad(out, content.len())
}

fn pad(out: &mut impl io::Write, written: usize) -> io::Result<()> {
    out.write_all(&[0; 3][..written.next_multiple_of(4) - written])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn folders_come_before_what_is_in_them() {
        let mut one = Initramfs::default();
        one.file("bin/a", 0o755, b"abc").link("bin/sh", "a");
        let mut other = Initramfs::default();
        other.link("bin/sh", "a").file("bin/a", 0o755, b"abc");
        let archive = one.archive().unwrap();
        assert_eq!(archive, other.archive().unwrap());

        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(archive.as_slice()).read_to_end(&mut plain).unwrap();
        let text = String::from_utf8(plain).unwrap();
        assert!(text.starts_with("07070100000001000041ed"), "{text}");
        let at = |name: &str| text.find(name).unwrap();
        assert!(at("bin\0") < at("bin/a\0") && at("bin/a\0") < at("bin/sh\0"));
        assert!(at("bin/sh\0") < at(LAST));
        assert_eq!(text.len() % 4, 0);
    }
}
