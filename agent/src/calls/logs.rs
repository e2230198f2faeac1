//! One caller's look at an instance's output.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use limpet_protocol::call::{CallOut, Stream};
use limpet_protocol::id::SessionId;
use limpet_protocol::limits::MAX_CALL_CHUNK_BYTES;
use tokio::sync::{Semaphore, mpsc, watch};

use super::{Answer, Out};
use crate::runtime::logs::{LogLine, LogReader};
use crate::runtime::{ContainerId, RuntimePaths};

/// How soon a follower looks for more; doubled while there is none.
const FIRST_LOOK: Duration = Duration::from_millis(50);
/// The longest that a line waits for its follower.
const LONGEST_LOOK: Duration = Duration::from_millis(800);

/// Which part of the output, and how.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogsWanted {
    /// Only the last so many lines.
    pub tail: Option<u32>,
    /// Go on as more is written.
    pub follow: bool,
    /// Only what was written from then on, in milliseconds since 1970.
    pub since_ms: Option<u64>,
    /// Begin each line with its time.
    pub timestamps: bool,
}

/// One caller's look at an instance's output.
#[derive(Debug)]
pub struct LogCall {
    pub(super) session: SessionId,
    pub(super) wanted: LogsWanted,
    pub(super) credit: Arc<Semaphore>,
    pub(super) newest: watch::Receiver<Option<ContainerId>>,
    /// Whether the last line of each output goes on in the next piece.
    pub(super) open: [bool; 2],
}

impl LogCall {
    /// Sends what there is and, for a follower, what comes. Ends with an answer that says so unless
    /// the caller is gone.
    pub async fn run(mut self, paths: RuntimePaths, answers: mpsc::Sender<Answer>) {
        let mut out = Out::new(self.session.clone(), self.credit.clone(), answers);
        let error = match self.send_all(&paths, &mut out).await {
            Ok(()) => None,
            Err(error) => Some(format!("the output cannot be read: {error}")),
        };
        out.end(CallOut::end(error)).await;
    }

    async fn send_all(&mut self, paths: &RuntimePaths, out: &mut Out) -> io::Result<()> {
        let mut look = FIRST_LOOK;
        let mut container = self.newest.borrow_and_update().clone();
        while let Some(id) = container {
            let mut reader = None;
            loop {
                let lines = self.read(paths, &id, &mut reader)?;
                let got_any = !lines.is_empty();
                for (stream, data) in chunks(self.chosen(lines)) {
                    if !out.chunk(stream, data).await {
                        return Ok(());
                    }
                }
                if got_any {
                    look = FIRST_LOOK;
                    // Lines that are passed over must not hold the loop up.
                    tokio::task::yield_now().await;
                    continue;
                }
                if !self.wanted.follow || out.is_closed() {
                    return Ok(());
                }
                // Everything of this container is read before the next one's begins.
                if self.newest.has_changed().unwrap_or(false) {
                    break;
                }
                tokio::time::sleep(look).await;
                look = (look * 2).min(LONGEST_LOOK);
            }
            container = self.newest.borrow_and_update().clone();
        }
        Ok(())
    }

    /// The next lines of a container. One that has written nothing yet has no log.
    fn read(
        &mut self,
        paths: &RuntimePaths,
        id: &ContainerId,
        reader: &mut Option<LogReader>,
    ) -> io::Result<Vec<LogLine>> {
        let open = match reader {
            Some(reader) => reader,
            None => match LogReader::open(paths, id, self.wanted.tail) {
                Ok(opened) => {
                    self.wanted.tail = None;
                    reader.insert(opened)
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(error) => return Err(error),
            },
        };
        open.read(MAX_CALL_CHUNK_BYTES)
    }

    /// Those that were written late enough, with their times if these are wanted.
    fn chosen(&mut self, mut lines: Vec<LogLine>) -> Vec<LogLine> {
        lines.retain(|line| self.wanted.since_ms.is_none_or(|since| line.at_ms >= since));
        if self.wanted.timestamps {
            for line in &mut lines {
                let open = &mut self.open[usize::from(line.stream == Stream::Stderr)];
                if std::mem::replace(open, !line.data.ends_with(b"\n")) {
                    continue;
                }
                let mut data = format!("{} ", line.at_ms).into_bytes();
                data.append(&mut line.data);
                line.data = data;
            }
        }
        lines
    }
}

/// Joins lines that follow each other on one stream into chunks that the wire takes.
fn chunks(lines: Vec<LogLine>) -> Vec<(Stream, Vec<u8>)> {
    let mut chunks: Vec<(Stream, Vec<u8>)> = Vec::new();
    for line in lines {
        for piece in line.data.chunks(MAX_CALL_CHUNK_BYTES) {
            match chunks.last_mut() {
                Some((stream, data))
                    if *stream == line.stream
                        && data.len() + piece.len() <= MAX_CALL_CHUNK_BYTES =>
                {
                    data.extend_from_slice(piece);
                }
                _ => chunks.push((line.stream, piece.to_vec())),
            }
        }
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at_ms: u64, stream: Stream, text: &str) -> LogLine {
        LogLine { at_ms, stream, data: text.as_bytes().to_vec() }
    }

    #[test]
    fn lines_of_one_stream_share_a_chunk() {
        let long = "x".repeat(MAX_CALL_CHUNK_BYTES);
        let lines = vec![
            line(0, Stream::Stdout, "a\n"),
            line(0, Stream::Stdout, "b\n"),
            line(0, Stream::Stderr, "c\n"),
            line(0, Stream::Stderr, &long),
        ];
        let sizes: Vec<(Stream, usize)> =
            chunks(lines).into_iter().map(|(stream, data)| (stream, data.len())).collect();
        let expected = [(Stream::Stdout, 4), (Stream::Stderr, 2), (Stream::Stderr, long.len())];
        assert_eq!(sizes, expected);
    }

    #[test]
    fn old_lines_are_left_out_and_times_put_before_the_rest() {
        let wanted = LogsWanted { since_ms: Some(5), timestamps: true, ..LogsWanted::default() };
        let mut call = LogCall {
            session: SessionId::new("s").unwrap(),
            wanted,
            credit: Arc::new(Semaphore::new(0)),
            newest: watch::channel(None).1,
            open: [false; 2],
        };
        let lines = [(4, "old\n"), (5, "new"), (6, " and on\n"), (7, "next\n")];
        let lines = lines.map(|(at_ms, text)| line(at_ms, Stream::Stdout, text)).to_vec();
        let chosen = call.chosen(lines).into_iter().flat_map(|line| line.data).collect();
        assert_eq!(String::from_utf8(chosen).unwrap(), "5 new and on\n7 next\n");
    }
}
