//! A part of an image as a file of its own, and writing that leaves out what is zero.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;

use super::partitions::Part;

/// A page, which most file systems can leave out of a file.
const CHUNK: usize = 4096;

/// The bytes of one partition of an image.
#[derive(Debug)]
pub(super) struct PartFile<'a> {
    file: &'a File,
    part: Part,
    at: u64,
}

impl<'a> PartFile<'a> {
    /// From its beginning.
    pub(super) fn new(file: &'a File, part: Part) -> Self {
        Self { file, part, at: 0 }
    }

    /// As much of a buffer as is left of the part.
    fn room(&self, wanted: usize) -> usize {
        let left = self.part.bytes.saturating_sub(self.at);
        usize::try_from(left).unwrap_or(usize::MAX).min(wanted)
    }
}

impl Read for PartFile<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = self.room(buffer.len());
        let count = self.file.read_at(&mut buffer[..room], self.part.first + self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Write for PartFile<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count =
            self.file.write_at(&buffer[..self.room(buffer.len())], self.part.first + self.at)?;
        self.at += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for PartFile<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.part.bytes.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// Writes what is not zero into a file of zeroes.
pub(super) fn write_sparse(file: &File, first: u64, bytes: &[u8]) -> io::Result<()> {
    let mut at = first;
    for chunk in bytes.chunks(CHUNK) {
        if chunk.iter().any(|byte| *byte != 0) {
            file.write_all_at(chunk, at)?;
        }
        at += chunk.len() as u64;
    }
    Ok(())
}
