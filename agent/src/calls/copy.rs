//! Files of an instance, in and out as tar streams, for one caller.
//!
//! In: a container that runs, a path in it, and for the way in a tar stream as input. Out: chunks of
//! a tar stream, or the word that everything is written. Each copy has a thread of its own, because
//! file systems of a container may hang; at most [`MAX_COPIES`] of them. Between thread and task
//! there are a few chunks, so a slow reader makes the thread wait and nothing grow.

use std::io::{self, Read, Write};
use std::sync::Arc;

use limpet_protocol::call::{CallOut, Stream};
use limpet_protocol::id::SessionId;
use limpet_protocol::limits::{INPUT_WINDOW, MAX_CALL_CHUNK_BYTES};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::root::{CopyError, Root};
use super::{Answer, Out, tree_in, tree_out};
use crate::runtime::{ContainerId, RuntimePaths};

/// Copies at the same time: each is a thread.
pub const MAX_COPIES: usize = 4;
/// Chunks between a thread and its task.
const CHUNKS_BETWEEN: usize = 2;

/// The places for copies. One is free again when its thread has ended, not when its caller has gone.
#[derive(Debug)]
pub(super) struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_COPIES)))
    }
}

impl Places {
    pub(super) fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }
}

/// Which way.
#[derive(Debug)]
pub(super) enum Direction {
    Out { path: String },
    In { path: String, contents: bool, input: mpsc::Receiver<Vec<u8>> },
}

/// One caller's copy.
#[derive(Debug)]
pub struct CopyCall {
    pub(super) session: SessionId,
    pub(super) container: ContainerId,
    pub(super) direction: Direction,
    pub(super) credit: Arc<Semaphore>,
    pub(super) place: OwnedSemaphorePermit,
}

impl CopyCall {
    /// Which call it is.
    #[must_use]
    pub fn session(&self) -> &SessionId {
        &self.session
    }

    /// Copies to the end, and says that it is reached or why not.
    pub async fn run(self, paths: RuntimePaths, answers: mpsc::Sender<Answer>) {
        let Self { session, container, direction, credit, place } = self;
        let mut out = Out::new(session, credit, answers);
        let result = match direction {
            Direction::Out { path } => {
                let (chunks, from_thread) = mpsc::channel(CHUNKS_BETWEEN);
                let ended = in_thread(place, move || {
                    let root = Root::of(&paths, &container)?;
                    let mut chunks = Chunks { buffer: Vec::new(), chunks };
                    tree_out::send(&root, &path, &mut chunks)?;
                    chunks.flush().map_err(|error| CopyError::Stream { error })
                });
                send_chunks(from_thread, &mut out).await;
                ended.await
            }
            Direction::In { path, contents, input } => {
                let (to_thread, pieces) = mpsc::channel(CHUNKS_BETWEEN);
                let mut ended = in_thread(place, move || {
                    let root = Root::of(&paths, &container)?;
                    let pieces = Pieces { current: Vec::new(), at: 0, pieces };
                    tree_in::receive(&root, &path, contents, pieces)
                });
                tokio::select! {
                    result = &mut ended => result,
                    () = pass_input(input, to_thread, &out) => ended.await,
                }
            }
        };
        let error = match result {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the copy was given up".to_owned()),
        };
        out.end(CallOut::end(error)).await;
    }
}

/// Runs a copy in a thread, which has its place as long as it lives.
fn in_thread(
    place: OwnedSemaphorePermit,
    copy: impl FnOnce() -> Result<(), CopyError> + Send + 'static,
) -> oneshot::Receiver<Result<(), CopyError>> {
    let (done, ended) = oneshot::channel();
    let thread = std::thread::Builder::new().name("copy".to_owned()).spawn(move || {
        // Who does not wait for it any more is gone.
        drop(done.send(copy()));
        drop(place);
    });
    if let Err(error) = thread {
        tracing::warn!("start a thread for a copy: {error}");
    }
    ended
}

async fn send_chunks(mut chunks: mpsc::Receiver<Vec<u8>>, out: &mut Out) {
    while let Some(data) = chunks.recv().await {
        if !out.chunk(Stream::Stdout, data).await {
            return;
        }
    }
}

/// Gives the thread what comes, and credit for more as it is taken.
async fn pass_input(
    mut input: mpsc::Receiver<Vec<u8>>,
    to_thread: mpsc::Sender<Vec<u8>>,
    out: &Out,
) {
    out.say(CallOut::Credit { chunks: INPUT_WINDOW }).await;
    while let Some(piece) = input.recv().await {
        if to_thread.send(piece).await.is_err() {
            return;
        }
        out.say(CallOut::Credit { chunks: 1 }).await;
    }
    if out.is_closed() {
        // The caller is gone in the middle: what is missing must not look like the end.
        to_thread.send(Vec::new()).await.ok();
    }
}

/// The thread's way out: bytes become chunks.
pub(super) struct Chunks {
    buffer: Vec<u8>,
    chunks: mpsc::Sender<Vec<u8>>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = MAX_CALL_CHUNK_BYTES - self.buffer.len();
        let taken = room.min(bytes.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == MAX_CALL_CHUNK_BYTES {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::take(&mut self.buffer);
        self.chunks.blocking_send(chunk).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// The thread's way in: pieces become bytes. An empty piece says that the rest will not come.
pub(super) struct Pieces {
    current: Vec<u8>,
    at: usize,
    pieces: mpsc::Receiver<Vec<u8>>,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.current.len() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(piece) if piece.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(piece) => (self.current, self.at) = (piece, 0),
            }
        }
        let left = &self.current[self.at..];
        let count = left.len().min(buffer.len());
        buffer[..count].copy_from_slice(&left[..count]);
        self.at += count;
        Ok(count)
    }
}
