//! The state gets the whole card at its first boot: the partition while nothing uses it, the file system when it is
//! mounted.
//!
//! In: a partition's device, a mounted folder. Out: the table with one sector changed, and a larger file
//! system. Each is one step that the power may end at any time: a sector is written as a whole, and
//! ext4 grows under its journal.

#![expect(unsafe_code, reason = "two requests of ioctl(2) that no crate here has")]

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::ioctl::{self, Opcode, opcode};

use super::mbr::{self, MbrError, SECTOR_BYTES};

/// `BLKRRPART` (linux/fs.h): read the partition table again.
const READ_TABLE: Opcode = opcode::none(0x12, 95);
/// `EXT4_IOC_RESIZE_FS` (fs/ext4/ext4.h): grow to so many blocks.
const RESIZE: Opcode = opcode::write::<u64>(b'f', 16);

/// What does not grow.
#[derive(Debug, thiserror::Error)]
pub(super) enum GrowError {
    /// The device is no partition, or the kernel does not say of what.
    #[error("find the disk of {}", device.display())]
    Disk {
        /// The partition's.
        device: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The table cannot be read or written.
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
    /// The table is not as the image's.
    #[error("grow a partition of {}", disk.display())]
    Table {
        /// Of which disk.
        disk: PathBuf,
        /// What is wrong.
        #[source]
        source: MbrError,
    },
}

/// Lets a partition reach to the end of its disk, if it is the last one.
pub(super) fn partition(device: &Path) -> Result<(), GrowError> {
    let (disk, number, sectors) =
        whole_of(device).map_err(|source| GrowError::Disk { device: device.to_owned(), source })?;
    let access = |attempt| {
        let path = disk.clone();
        move |source| GrowError::Access { attempt, path, source }
    };
    let open = OpenOptions::new().read(true).write(true).open(&disk);
    let file = open.map_err(access("open"))?;
    let mut sector = [0; SECTOR_BYTES];
    file.read_exact_at(&mut sector, 0).map_err(access("read the partition table of"))?;
    let grown = mbr::grown(&sector, number, sectors)
        .map_err(|source| GrowError::Table { disk: disk.clone(), source })?;
    let Some(grown) = grown else { return Ok(()) };
    file.write_all_at(&grown, 0).map_err(access("write the partition table of"))?;
    file.sync_all().map_err(access("write the partition table of"))?;
    read_table(&file).map_err(access("read the new partition table of"))
}

/// The disk of a partition, its number, and the disk's sectors, as sysfs has them.
fn whole_of(device: &Path) -> io::Result<(PathBuf, u32, u64)> {
    let unknown = || io::Error::from(io::ErrorKind::InvalidData);
    let name = device.file_name().ok_or_else(unknown)?;
    let partition = fs::canonicalize(Path::new("/sys/class/block").join(name))?;
    let disk = partition.parent().ok_or_else(unknown)?;
    let read = |path: PathBuf| -> io::Result<u64> {
        fs::read_to_string(path)?.trim().parse().map_err(|_| unknown())
    };
    let number = u32::try_from(read(partition.join("partition"))?).map_err(|_| unknown())?;
    let sectors = read(disk.join("size"))?;
    let disk_name = disk.file_name().ok_or_else(unknown)?;
    Ok((device.with_file_name(disk_name), number, sectors))
}

fn read_table(disk: &File) -> io::Result<()> {
    // SAFETY: the request takes no argument and touches no memory of this process.
    let asked = unsafe { ioctl::ioctl(disk, ioctl::NoArg::<READ_TABLE>::new()) };
    asked.map_err(io::Error::from)
}

/// Lets the ext4 file system of a folder fill its partition.
pub(super) fn file_system(folder: &Path) -> Result<(), GrowError> {
    let access = |attempt| {
        let path = folder.to_owned();
        move |source: io::Error| GrowError::Access { attempt, path, source }
    };
    let device = device_of(folder).map_err(access("find the device of"))?;
    let size = fs::read_to_string(device.join("size")).map_err(access("find the size of"))?;
    let facts = rustix::fs::statvfs(folder)
        .map_err(|source| access("find the block size of")(source.into()))?;
    let bytes = size.trim().parse::<u64>().unwrap_or(0).saturating_mul(SECTOR_BYTES as u64);
    let blocks = bytes / facts.f_bsize.max(1);
    let root = File::open(folder).map_err(access("open"))?;
    // SAFETY: the request reads one 64-bit number, which outlives the call.
    let asked = unsafe { ioctl::ioctl(&root, ioctl::Setter::<RESIZE, u64>::new(blocks)) };
    asked.map_err(|source| access("grow the file system of")(source.into()))
}

/// Where sysfs has the device that holds a folder.
fn device_of(folder: &Path) -> io::Result<PathBuf> {
    let facts = rustix::fs::stat(folder)?;
    let (major, minor) = (rustix::fs::major(facts.st_dev), rustix::fs::minor(facts.st_dev));
    fs::canonicalize(format!("/sys/dev/block/{major}:{minor}"))
}
