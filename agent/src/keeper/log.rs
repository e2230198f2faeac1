//! A container's log: bytes from its pipes in, marked lines in bounded files out.
//!
//! One file for both streams, so that their order is kept. A line is
//! `<milliseconds since 1970> <mark> <text>`; the mark is `o` or `e` for a whole line of standard
//! output or error, `O` or `E` for a piece whose line goes on in the next. At its largest size the
//! file is renamed `….1`, `….1` to `….2` and so on; the oldest goes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use limpet_protocol::spec::LogPolicy;

/// A longer line is kept in pieces of this size.
pub(super) const MAX_LINE_BYTES: usize = 8 * 1024;
/// Smallest file that is honoured: one batch of lines must fit.
pub(crate) const MIN_FILE_BYTES: u64 = 16 * 1024;
/// Most files that are honoured.
pub(crate) const MAX_FILES: u32 = 100;

/// The path of the `index`th newest file of a log; 0 is the one that is written.
pub(crate) fn rotated(path: &Path, index: u32) -> PathBuf {
    if index == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{index}"));
    name.into()
}

/// Removes a log with its older files. Between two steps of a rotation the newest is not there.
pub(super) fn remove_log(path: &Path) {
    for index in 0..=MAX_FILES {
        if fs::remove_file(rotated(path, index)).is_err() && index > 0 {
            break;
        }
    }
}

/// Removes what earlier attempts of an instance left in the folder of logs, unless they are still
/// `known`: of those that could not be made only the newest says why.
pub(super) fn remove_older_logs(folder: &Path, id: &str, known: impl Fn(&str) -> bool) {
    let attempt_of = |id: &str| -> Option<(String, u32)> {
        let (instance, attempt) = id.rsplit_once('.')?;
        Some((instance.to_owned(), attempt.parse().ok()?))
    };
    let Some((instance, newest)) = attempt_of(id) else { return };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some((other, _)) = name.to_str().and_then(|name| name.rsplit_once(".log")) else {
            continue;
        };
        let older = attempt_of(other).is_some_and(|(of, it)| of == instance && it < newest);
        if older && !known(other) {
            // One that cannot be removed now is found again at the next failure.
            fs::remove_file(entry.path()).ok();
        }
    }
}

/// Which output, as its mark in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    Stdout,
    Stderr,
}

impl Output {
    const fn mark(self, whole: bool) -> u8 {
        match (self, whole) {
            (Self::Stdout, true) => b'o',
            (Self::Stdout, false) => b'O',
            (Self::Stderr, true) => b'e',
            (Self::Stderr, false) => b'E',
        }
    }
}

/// Cuts what one stream brings into lines; keeps what is not a whole line yet.
#[derive(Debug, Default)]
pub(super) struct Framer {
    rest: Vec<u8>,
}

impl Framer {
    /// Appends to `lines` what `input` completes.
    pub(super) fn frame(&mut self, at_ms: u64, output: Output, input: &[u8], lines: &mut Vec<u8>) {
        for piece in input.split_inclusive(|byte| *byte == b'\n') {
            let whole = piece.ends_with(b"\n");
            let mut text = if whole { &piece[..piece.len() - 1] } else { piece };
            while self.rest.len() + text.len() > MAX_LINE_BYTES {
                let (head, tail) = text.split_at(MAX_LINE_BYTES - self.rest.len());
                self.put(at_ms, output.mark(false), head, lines);
                text = tail;
            }
            if whole {
                self.put(at_ms, output.mark(true), text, lines);
            } else {
                self.rest.extend_from_slice(text);
            }
        }
        if self.rest.is_empty() {
            // An idle container keeps no buffer.
            self.rest = Vec::new();
        }
    }

    /// Appends what is left, as a whole line: the stream is at its end.
    pub(super) fn finish(&mut self, at_ms: u64, output: Output, lines: &mut Vec<u8>) {
        if !self.rest.is_empty() {
            self.put(at_ms, output.mark(true), &[], lines);
            self.rest = Vec::new();
        }
    }

    fn put(&mut self, at_ms: u64, mark: u8, text: &[u8], lines: &mut Vec<u8>) {
        // Writing to a vector cannot fail.
        drop(write!(lines, "{at_ms} {} ", char::from(mark)));
        lines.append(&mut self.rest);
        lines.extend_from_slice(text);
        lines.push(b'\n');
    }
}

/// Writes a log within its policy.
#[derive(Debug)]
pub(super) struct LogWriter {
    path: PathBuf,
    max_file_bytes: u64,
    max_files: u32,
    file: Option<File>,
    bytes: u64,
}

impl LogWriter {
    /// A writer; the file is made when there is something to write.
    pub(super) fn new(path: PathBuf, policy: &LogPolicy) -> Self {
        Self {
            path,
            max_file_bytes: policy.max_file_bytes.max(MIN_FILE_BYTES),
            max_files: policy.max_files.clamp(1, MAX_FILES),
            file: None,
            bytes: 0,
        }
    }

    /// Writes whole lines, and rotates between lines where the file would get too large.
    pub(super) fn append(&mut self, mut lines: &[u8]) -> io::Result<()> {
        while !lines.is_empty() {
            if self.file.is_none() {
                let file = OpenOptions::new().append(true).create(true).open(&self.path)?;
                self.bytes = file.metadata()?.len();
                self.file = Some(file);
            }
            let room = self.max_file_bytes.saturating_sub(self.bytes);
            let fitting = fitting_lines(lines, usize::try_from(room).unwrap_or(usize::MAX));
            if fitting == 0 && self.bytes > 0 {
                self.rotate()?;
                continue;
            }
            // A line that is longer than a whole file is written all the same: it is bounded.
            let fitting = if fitting == 0 { first_line(lines) } else { fitting };
            if let Some(file) = &mut self.file {
                file.write_all(&lines[..fitting])?;
            }
            self.bytes += fitting as u64;
            lines = &lines[fitting..];
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        for index in (0..self.max_files).rev() {
            let from = rotated(&self.path, index);
            let moved = if index + 1 >= self.max_files {
                fs::remove_file(&from)
            } else {
                fs::rename(&from, rotated(&self.path, index + 1))
            };
            match moved {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

fn first_line(lines: &[u8]) -> usize {
    lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |at| at + 1)
}

/// How many bytes of whole lines fit into `room`.
fn fitting_lines(lines: &[u8], room: usize) -> usize {
    if lines.len() <= room {
        return lines.len();
    }
    lines[..room].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(inputs: &[&[u8]]) -> String {
        let (mut framer, mut lines) = (Framer::default(), Vec::new());
        for input in inputs {
            framer.frame(7, Output::Stdout, input, &mut lines);
        }
        framer.finish(8, Output::Stdout, &mut lines);
        String::from_utf8(lines).unwrap()
    }

    #[test]
    fn bytes_become_lines() {
        assert_eq!(framed(&[b"a\nb\n"]), "7 o a\n7 o b\n");
        assert_eq!(framed(&[b"a", b"b\n\nc"]), "7 o ab\n7 o \n8 o c\n");
        assert_eq!(framed(&[]), "");
        let long = "x".repeat(MAX_LINE_BYTES);
        assert_eq!(framed(&[long.as_bytes(), b"\n"]), format!("7 o {long}\n"));
        assert_eq!(framed(&[long.as_bytes(), b"yz\n"]), format!("7 O {long}\n7 o yz\n"));
    }

    #[test]
    fn of_failed_attempts_only_the_newest_log_stays() {
        let folder = tempfile::tempdir().unwrap();
        let names = |left: &[&str]| left.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        for name in ["a.log.1.1.log", "a.log.1.2.log", "a.log.1.2.log.1", "a.log.1.3.log"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        fs::write(folder.path().join("a.log.2.1.log"), "").unwrap();
        let left = || {
            let entries = fs::read_dir(folder.path()).unwrap();
            let mut left: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            left.sort();
            left
        };
        remove_older_logs(folder.path(), "a.log.1.3", |id| id == "a.log.1.1");
        assert_eq!(left(), names(&["a.log.1.1.log", "a.log.1.3.log", "a.log.2.1.log"]));
        fs::write(folder.path().join("a.log.1.3.log.1"), "").unwrap();
        remove_log(&folder.path().join("a.log.1.3.log"));
        assert_eq!(left(), names(&["a.log.1.1.log", "a.log.2.1.log"]));
    }

    #[test]
    fn files_are_bounded_and_nothing_is_lost_in_between() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let policy = LogPolicy { max_file_bytes: 1, max_files: 3 };
        let mut writer = LogWriter::new(path.clone(), &policy);
        let line = [b'x'; 999];
        for number in 0..100_u32 {
            let mut text = line.to_vec();
            text.extend_from_slice(format!("{number}\n").as_bytes());
            writer.append(&text.repeat(2)).unwrap();
        }
        let sizes: Vec<u64> =
            (0..3).map(|index| rotated(&path, index).metadata().unwrap().len()).collect();
        assert!(sizes.iter().all(|size| *size <= MIN_FILE_BYTES), "{sizes:?}");
        assert!(!rotated(&path, 3).exists());
        let kept: String =
            (0..3).rev().map(|index| fs::read_to_string(rotated(&path, index)).unwrap()).collect();
        let numbers: Vec<u32> =
            kept.lines().map(|line| line.trim_start_matches('x').parse().unwrap()).collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] || pair[1] == pair[0] + 1));
        assert_eq!(numbers.last(), Some(&99));
    }
}
