//! The boot partition: a FAT file system, which the firmware of boards and every computer read.
//!
//! In: files. Out: the bytes of a partition, the same for the same files: times in it are the first that
//! FAT has. Of a partition that exists, one file can be read and put in the place of another.

use std::io::{self, Cursor, Read as _, Write as _};

use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions, ReadWriteSeek};

/// What the board's scripts and people look for.
const LABEL: [u8; 11] = *b"LIMPET     ";

/// A new partition of so many bytes with these files. Paths have `/` between their parts.
pub(super) fn make<'a>(
    bytes: usize,
    volume: u32,
    files: impl Iterator<Item = (&'a str, &'a [u8])>,
) -> io::Result<Vec<u8>> {
    let mut partition = vec![0; bytes];
    let options = FormatVolumeOptions::new().fat_type(FatType::Fat32);
    let options = options.volume_id(volume).volume_label(LABEL);
    fatfs::format_volume(Cursor::new(partition.as_mut_slice()), options)?;
    let system = open(Cursor::new(partition.as_mut_slice()))?;
    for (path, content) in files {
        let mut folder = system.root_dir();
        let mut parts = path.split('/').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_some() {
                folder = folder.create_dir(part)?;
            } else {
                folder.create_file(part)?.write_all(content)?;
            }
        }
    }
    system.unmount()?;
    Ok(partition)
}

/// A file of a partition.
pub(super) fn read(partition: impl ReadWriteSeek, path: &str) -> io::Result<Vec<u8>> {
    let system = open(partition)?;
    let mut content = Vec::new();
    system.root_dir().open_file(path)?.read_to_end(&mut content)?;
    Ok(content)
}

/// Puts a file into the place of what was there by its name.
pub(super) fn replace(partition: impl ReadWriteSeek, path: &str, content: &[u8]) -> io::Result<()> {
    let system = open(partition)?;
    let root = system.root_dir();
    let mut file = root.create_file(path)?;
    file.truncate()?;
    file.write_all(content)?;
    drop(file);
    drop(root);
    system.unmount()
}

fn open<P: ReadWriteSeek>(partition: P) -> io::Result<FileSystem<P>> {
    FileSystem::new(partition, FsOptions::new().update_accessed_date(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 40 << 20;

    #[test]
    fn the_same_files_make_the_same_bytes() {
        let files: [(&str, &[u8]); 3] =
            [("limpet.toml", b"[agent]\n"), ("overlays/a.dtbo", b"1"), ("overlays/b.dtbo", b"2")];
        let made = || make(BYTES, 7, files.into_iter()).unwrap();
        let mut partition = made();
        assert!(partition == made());
        for (path, content) in files {
            let read = read(Cursor::new(partition.as_mut_slice()), path).unwrap();
            assert_eq!(read, content, "{path}");
        }
        let shorter = b"x";
        replace(Cursor::new(partition.as_mut_slice()), "limpet.toml", shorter).unwrap();
        let read = read(Cursor::new(partition.as_mut_slice()), "limpet.toml").unwrap();
        assert_eq!(read, shorter);
    }
}
