//! Logs: what a container wrote, read back from the files that the keeper keeps.
//!
//! In: a container's name and how many of its last lines are wanted. Out: [`LogLine`]s in the
//! order in which they were written. The reader survives rotation of the files under it; what
//! was rotated away before it was read is gone, and the reader goes on with what is there.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use limpet_protocol::call::Stream;

use super::{ContainerId, RuntimePaths};
use crate::keeper::log::{MAX_FILES, rotated};

/// Read at once when the last lines are looked for.
const CHUNK_BYTES: usize = 16 * 1024;
/// Longest line that the keeper writes, with room.
const MAX_LINE_BYTES: usize = 16 * 1024;

/// One line of output, or a piece of a line that was too long to be kept whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When the keeper read it, by the node's clock, in milliseconds since 1970.
    pub at_ms: u64,
    /// Where it was written to.
    pub stream: Stream,
    /// The bytes, with the line's end unless the line goes on in the next piece.
    pub data: Vec<u8>,
}

/// Reads a container's log, from its last lines on.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    file: File,
    /// The beginning of a line whose end is not there yet.
    rest: Vec<u8>,
}

impl LogReader {
    /// Opens the log of a container; `tail` is how many of the last lines are wanted, none means all.
    ///
    /// # Errors
    /// If there is no such log (a container that wrote nothing has none), or it cannot be read.
    pub fn open(paths: &RuntimePaths, id: &ContainerId, tail: Option<u32>) -> io::Result<Self> {
        let path = paths.log(&id.to_string());
        let mut wanted = tail.map(u64::from);
        let mut index = 0;
        loop {
            let mut file = match File::open(rotated(&path, index)) {
                // Between two steps of a rotation the newest is not there.
                Err(error) if index == 0 && error.kind() == io::ErrorKind::NotFound => {
                    index = 1;
                    File::open(rotated(&path, 1))?
                }
                other => other?,
            };
            let older = index < MAX_FILES && rotated(&path, index + 1).exists();
            match &mut wanted {
                None if older => {}
                None => return Ok(Self { path, file, rest: Vec::new() }),
                Some(left) => {
                    if seek_last_lines(&mut file, left)? || !older {
                        return Ok(Self { path, file, rest: Vec::new() });
                    }
                }
            }
            index += 1;
        }
    }

    /// The next lines, about `max_bytes` of them; empty when nothing more is there yet. Never waits:
    /// one who follows asks again some time later.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn read(&mut self, max_bytes: usize) -> io::Result<Vec<LogLine>> {
        let mut lines = Vec::new();
        let mut left = max_bytes;
        // At least one line, so that an empty answer means that there is none.
        while left > 0 || lines.is_empty() {
            let mut buffer = vec![0; left.clamp(1, CHUNK_BYTES)];
            let count = self.file.read(&mut buffer)?;
            if count == 0 {
                if !lines.is_empty() || !self.open_next()? {
                    break;
                }
                continue;
            }
            left = left.saturating_sub(count);
            self.take(&buffer[..count], &mut lines);
        }
        Ok(lines)
    }

    fn take(&mut self, bytes: &[u8], lines: &mut Vec<LogLine>) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.rest.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                lines.extend(parse(&self.rest));
                self.rest.clear();
            } else if self.rest.len() > MAX_LINE_BYTES {
                // No line of the keeper's.
                self.rest.clear();
            }
        }
    }

    /// Goes on with the file that came after the one that was read to its end; false if that is
    /// the one still written to.
    fn open_next(&mut self) -> io::Result<bool> {
        let own = self.file.metadata()?;
        let is_own = |index| {
            let found = rotated(&self.path, index).metadata();
            found.is_ok_and(|found| (found.dev(), found.ino()) == (own.dev(), own.ino()))
        };
        let newest =
            (0..=MAX_FILES).take_while(|index| *index == 0 || rotated(&self.path, *index).exists());
        let existing: Vec<u32> = newest.collect();
        let next = match existing.iter().copied().find(|index| is_own(*index)) {
            Some(0) => return Ok(false),
            Some(index) => index - 1,
            // Rotated away: the oldest that is left.
            None => existing.last().copied().unwrap_or(0),
        };
        match File::open(rotated(&self.path, next)) {
            Ok(file) => {
                self.file = file;
                self.rest.clear();
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Seeks to where the last `left` lines of the file begin; false, and so many fewer are left, if it
/// has not as many.
fn seek_last_lines(file: &mut File, left: &mut u64) -> io::Result<bool> {
    let mut at = file.seek(SeekFrom::End(0))?;
    if *left == 0 {
        return Ok(true);
    }
    let mut found = 0;
    let mut is_end = true;
    while at > 0 {
        let step = at.min(CHUNK_BYTES as u64);
        at -= step;
        file.seek(SeekFrom::Start(at))?;
        let mut buffer = vec![0; usize::try_from(step).unwrap_or(CHUNK_BYTES)];
        file.read_exact(&mut buffer)?;
        for (offset, _) in buffer.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            // The line's end at the end of the file ends the last line and begins none.
            if is_end {
                is_end = false;
                continue;
            }
            found += 1;
            if found == *left {
                file.seek(SeekFrom::Start(at + offset as u64 + 1))?;
                return Ok(true);
            }
        }
    }
    file.seek(SeekFrom::Start(0))?;
    let whole = if is_end { 0 } else { found + 1 };
    *left -= whole.min(*left);
    Ok(*left == 0)
}

fn parse(line: &[u8]) -> Option<LogLine> {
    let mut fields = line.splitn(3, |byte| *byte == b' ');
    let at_ms = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let (stream, whole) = match fields.next()? {
        b"o" => (Stream::Stdout, true),
        b"O" => (Stream::Stdout, false),
        b"e" => (Stream::Stderr, true),
        b"E" => (Stream::Stderr, false),
        _ => return None,
    };
    let mut data = fields.next()?.to_vec();
    if !whole {
        data.pop();
    }
    Some(LogLine { at_ms, stream, data })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    struct Log {
        folder: tempfile::TempDir,
        paths: RuntimePaths,
        id: ContainerId,
    }

    impl Log {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let run = folder.path().to_owned();
            std::fs::create_dir(run.join("logs")).unwrap();
            let data = run.clone();
            let paths = RuntimePaths { run, data, cgroup_parent: String::new() };
            Self { folder, paths, id: "a.b.1.1".parse().unwrap() }
        }
        fn path(&self, index: u32) -> PathBuf {
            rotated(&self.folder.path().join("logs/a.b.1.1.log"), index)
        }
        fn write(&self, text: &str) {
            let mut file = File::options().append(true).create(true).open(self.path(0)).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }
        fn rotate(&self) {
            std::fs::rename(self.path(1), self.path(2)).ok();
            std::fs::rename(self.path(0), self.path(1)).unwrap();
        }
        fn tail(&self, tail: Option<u32>) -> String {
            all(&mut LogReader::open(&self.paths, &self.id, tail).unwrap())
        }
    }

    fn all(reader: &mut LogReader) -> String {
        let mut text = Vec::new();
        loop {
            let lines = reader.read(8).unwrap();
            if lines.is_empty() {
                return String::from_utf8(text).unwrap();
            }
            text.extend(lines.into_iter().flat_map(|line| line.data));
        }
    }

    #[test]
    fn the_last_lines_are_found_across_files() {
        let log = Log::new();
        assert!(LogReader::open(&log.paths, &log.id, None).is_err());
        log.write("1 o one\n2 e two\n");
        log.rotate();
        log.write("3 o three\n4 O fo\n4 o ur\n");
        assert_eq!(log.tail(None), "one\ntwo\nthree\nfour\n");
        for (tail, expected) in [
            (0, ""),
            (1, "ur\n"),
            (3, "three\nfour\n"),
            (4, "two\nthree\nfour\n"),
            (5, "one\ntwo\nthree\nfour\n"),
            (9, "one\ntwo\nthree\nfour\n"),
        ] {
            assert_eq!(log.tail(Some(tail)), expected, "{tail}");
        }
    }

    #[test]
    fn a_follower_survives_rotation() {
        let log = Log::new();
        log.write("1 o one\n2 o tw");
        let mut reader = LogReader::open(&log.paths, &log.id, None).unwrap();
        assert_eq!(all(&mut reader), "one\n");
        log.write("o\n");
        log.rotate();
        log.write("3 o three\n");
        assert_eq!(all(&mut reader), "two\nthree\n");
        log.rotate();
        log.write("4 e four\n");
        log.rotate();
        log.write("5 e five\n");
        assert_eq!(all(&mut reader), "four\nfive\n");
        // Rotated away altogether: it goes on with the oldest that is left.
        log.write("6 o six\n");
        for index in [0, 1, 2] {
            std::fs::remove_file(log.path(index)).unwrap();
        }
        log.write("7 o seven\n");
        assert_eq!(all(&mut reader), "six\nseven\n");
    }
}
