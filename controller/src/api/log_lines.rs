//! Chunks of a container's output become lines of text. Deciding code: chunks in, lines out.

use limpet_protocol::call::{CallOut, Stream};

use super::types::LogLine;

/// What is known of a call's output so far.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The sequence number of the next chunk.
    next: u64,
    /// Bytes at the end of each stream's last chunk that begin a character.
    rest: [Vec<u8>; 2],
    ended: bool,
    /// Whether every line begins with its time.
    timestamps: bool,
    /// Whether the last line of each stream goes on.
    open: [bool; 2],
}

impl Lines {
    /// Nothing is known yet.
    pub(super) fn new(timestamps: bool) -> Self {
        Self { timestamps, ..Self::default() }
    }

    /// The lines of one answer.
    pub(super) fn take(&mut self, answer: CallOut) -> Vec<LogLine> {
        match answer {
            CallOut::Chunk { sequence, stream, data } => self.chunk(sequence, stream, data),
            CallOut::Credit { .. }
            | CallOut::Load(_)
            | CallOut::Missing(_)
            | CallOut::Scales(_)
            | CallOut::Node(_) => Vec::new(),
            CallOut::End { error, .. } => {
                self.ended = true;
                let mut lines: Vec<LogLine> = [Stream::Stdout, Stream::Stderr]
                    .into_iter()
                    .flat_map(|s| self.flush(s))
                    .collect();
                lines.extend(error.map(|text| failure(&text)));
                lines
            }
        }
    }

    /// Whether nothing more will come.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    fn chunk(&mut self, sequence: u64, stream: Stream, data: Vec<u8>) -> Vec<LogLine> {
        let mut lines = Vec::new();
        if sequence < self.next {
            // Delivered twice, which QoS 1 allows.
            return lines;
        }
        if sequence > self.next {
            lines.push(failure("some output was lost on the way"));
        }
        self.next = sequence.saturating_add(1);
        let rest = &mut self.rest[index(stream)];
        let mut bytes = std::mem::take(rest);
        bytes.extend_from_slice(&data);
        *rest = bytes.split_off(whole(&bytes));
        let parts = bytes.split_inclusive(|byte| *byte == b'\n');
        lines.extend(parts.map(|part| self.line(stream, part)));
        lines
    }

    fn line(&mut self, stream: Stream, mut bytes: &[u8]) -> LogLine {
        let goes_on = !bytes.ends_with(b"\n");
        let begins = !std::mem::replace(&mut self.open[index(stream)], goes_on);
        let mut at_ms = None;
        if self.timestamps
            && begins
            && let Some(space) = bytes.iter().position(|byte| *byte == b' ')
            && let Ok(time) = String::from_utf8_lossy(&bytes[..space]).parse()
        {
            at_ms = Some(time);
            bytes = &bytes[space + 1..];
        }
        let text = String::from_utf8_lossy(bytes).into_owned();
        LogLine { stream: name(stream).to_owned(), text, at_ms }
    }

    fn flush(&mut self, stream: Stream) -> Option<LogLine> {
        let rest = std::mem::take(&mut self.rest[index(stream)]);
        (!rest.is_empty()).then(|| self.line(stream, &rest))
    }
}

/// The line that says why the output ends before its time.
pub(super) fn failure(text: &str) -> LogLine {
    LogLine { stream: "error".to_owned(), text: text.to_owned(), at_ms: None }
}

/// How many of the bytes are there without a character that is cut off at the end.
fn whole(bytes: &[u8]) -> usize {
    let tail = bytes.len().saturating_sub(3);
    for at in (tail..bytes.len()).rev() {
        let length = match bytes[at] {
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf7 => 4,
            0x80..=0xbf => continue,
            _ => 1,
        };
        return if at + length > bytes.len() { at } else { bytes.len() };
    }
    bytes.len()
}

const fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

const fn name(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(sequence: u64, data: &[u8]) -> CallOut {
        CallOut::Chunk { sequence, stream: Stream::Stdout, data: data.to_vec() }
    }

    fn texts(lines: Vec<LogLine>) -> Vec<String> {
        lines.into_iter().map(|line| format!("{}:{}", line.stream, line.text)).collect()
    }

    #[test]
    fn chunks_become_lines_and_characters_stay_whole() {
        let mut lines = Lines::default();
        let euro = "€".as_bytes();
        let first = [b"a\nb\xff", &euro[..2]].concat();
        assert_eq!(texts(lines.take(chunk(0, &first))), ["stdout:a\n", "stdout:b\u{fffd}"]);
        assert_eq!(texts(lines.take(chunk(0, b"again"))), [""; 0]);
        assert_eq!(texts(lines.take(chunk(1, &[&euro[2..], b"\n"].concat()))), ["stdout:€\n"]);
        assert_eq!(
            texts(lines.take(chunk(3, &[b'x', 0xf0]))),
            ["error:some output was lost on the way", "stdout:x"]
        );
        let end = CallOut::end(Some("gone".to_owned()));
        assert_eq!(texts(lines.take(end)), ["stdout:\u{fffd}", "error:gone"]);
        assert!(lines.ended());
    }

    #[test]
    fn the_time_before_a_line_is_its_time() {
        let mut lines = Lines::new(true);
        let first = lines.take(chunk(0, b"12 a b\n13 half"));
        let times: Vec<_> = first.iter().map(|line| (line.at_ms, line.text.as_str())).collect();
        assert_eq!(times, [(Some(12), "a b\n"), (Some(13), "half")]);
        let second = lines.take(chunk(1, b" 14 on\n15 next\n"));
        let times: Vec<_> = second.iter().map(|line| (line.at_ms, line.text.as_str())).collect();
        assert_eq!(times, [(None, " 14 on\n"), (Some(15), "next\n")]);
    }
}
