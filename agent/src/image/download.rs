//! Downloads: blobs from a registry, into a file that survives a broken transfer.
//!
//! In: a descriptor and a [`Registry`]. Out: a verified file under `partial/`, or bytes for small
//! ones. A file that is there from an earlier try, also of an earlier life of the agent, is
//! continued from its end; the digest covers the whole. Writing and hashing are done on a blocking
//! thread behind a short queue, so a slow card never stalls the agent.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::StreamExt as _;
use limpet_oci::Digest;
use limpet_oci::digest::Hashing;
use limpet_oci::manifest::{Descriptor, MAX_MANIFEST_BYTES};
use tokio::sync::mpsc;

use super::ImageError;
use super::error::io_error;
use super::registry::{Registry, TRIES, pause, retry};

/// Chunks between network and disk; one has some 16 KiB.
const QUEUE: usize = 16;
/// Transfers that moved something do not count as failed tries, up to this many.
const MAX_TRANSFERS: u32 = 1000;

/// Fetches a small blob into memory.
pub(super) async fn small_blob(
    registry: &Registry,
    descriptor: &Descriptor,
) -> Result<Vec<u8>, ImageError> {
    let (digest, expected) = (descriptor.digest, descriptor.size);
    let registry_name = || registry.name.clone();
    if expected > MAX_MANIFEST_BYTES {
        return Err(ImageError::WrongSize { digest, expected, registry: registry_name() });
    }
    let bytes = retry(|| async {
        let mut stream = registry.blob(&digest, 0).await?.stream;
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|source| ImageError::Broken {
                digest,
                registry: registry_name(),
                source,
            })?;
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > expected {
                return Err(ImageError::WrongSize { digest, expected, registry: registry_name() });
            }
        }
        Ok(bytes)
    })
    .await?;
    let actual = Digest::of(&bytes);
    if actual != digest {
        return Err(registry.wrong_digest(digest, actual));
    }
    Ok(bytes)
}

/// Fetches a blob into a file of `folder`, continuing what is there. The file is verified.
pub(super) async fn large_blob(
    registry: &Registry,
    descriptor: &Descriptor,
    folder: &Path,
) -> Result<PathBuf, ImageError> {
    let path = folder.join(descriptor.digest.hex());
    let mut download = Download { registry, descriptor, path, tried: 1 };
    let continued = download.here() > 0;
    match download.run().await {
        // What an earlier life left may be spoilt: a file that was not synced before a power cut.
        Err(ImageError::WrongDigest { .. } | ImageError::WrongSize { .. }) if continued => {
            download.run().await?;
        }
        other => other?,
    }
    Ok(download.path)
}

struct Download<'a> {
    registry: &'a Registry,
    descriptor: &'a Descriptor,
    path: PathBuf,
    tried: u32,
}

/// How a transfer ended: the digest and length of the whole file, and what broke it off.
struct Ended {
    digest: Digest,
    bytes: u64,
    broken: Option<io::Error>,
}

impl Download<'_> {
    fn here(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |file| file.len())
    }

    async fn run(&mut self) -> Result<(), ImageError> {
        let digest = self.descriptor.digest;
        for _ in 0..MAX_TRANSFERS {
            let before = self.here();
            let ended = match self.transfer(before).await {
                Ok(ended) => ended,
                Err(error) if error.is_network() && self.tried < TRIES => {
                    pause(self.tried).await;
                    self.tried += 1;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if let Some(source) = ended.broken {
                let registry = self.registry.name.clone();
                if ended.bytes <= before {
                    if self.tried >= TRIES {
                        return Err(ImageError::Broken { digest, registry, source });
                    }
                    pause(self.tried).await;
                    self.tried += 1;
                } else {
                    // It moves: the link is bad, but not dead.
                    self.tried = 1;
                }
                tracing::debug!(%digest, have = ended.bytes, %source, "resume a transfer");
                continue;
            }
            return self.check(&ended);
        }
        let source = io::Error::other("it broke off a thousand times");
        Err(ImageError::Broken { digest, registry: self.registry.name.clone(), source })
    }

    fn check(&self, ended: &Ended) -> Result<(), ImageError> {
        let (digest, expected) = (self.descriptor.digest, self.descriptor.size);
        if ended.digest == digest && ended.bytes == expected {
            return Ok(());
        }
        fs::remove_file(&self.path).map_err(io_error("remove", &self.path))?;
        if ended.bytes != expected {
            let registry = self.registry.name.clone();
            return Err(ImageError::WrongSize { digest, expected, registry });
        }
        Err(self.registry.wrong_digest(digest, ended.digest))
    }

    /// One request, from what is there to as far as it comes.
    async fn transfer(&self, have: u64) -> Result<Ended, ImageError> {
        let size = self.descriptor.size;
        if have >= size {
            let (path, empty) = (self.path.clone(), mpsc::channel(1).1);
            return blocking(move || write(&path, have, size, empty)).await;
        }
        let blob = self.registry.blob(&self.descriptor.digest, have).await?;
        let (chunks, queue) = mpsc::channel(QUEUE);
        let (path, start) = (self.path.clone(), if blob.resumed { have } else { 0 });
        let writer = blocking(move || write(&path, start, size, queue));
        let reader = async move {
            let mut stream = blob.stream;
            while let Some(chunk) = stream.next().await {
                match chunk {
                    Ok(chunk) => {
                        // Where the writer is gone, it says why.
                        if chunks.send(chunk).await.is_err() {
                            return None;
                        }
                    }
                    Err(error) => return Some(error),
                }
            }
            None
        };
        let (broken, ended) = tokio::join!(reader, writer);
        let mut ended = ended?;
        let short = || io::Error::new(io::ErrorKind::UnexpectedEof, "the stream ended early");
        let first = ended.broken.take().or(broken);
        ended.broken = first.or_else(|| (ended.bytes < size).then(short));
        Ok(ended)
    }
}

/// Runs on a thread that may wait for the disk.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    let result = tokio::task::spawn_blocking(work).await;
    result.map_err(|error| ImageError::Client { reason: error.to_string() })?
}

/// Hashes the `have` bytes that are there, then appends and hashes what comes.
fn write(
    path: &Path,
    have: u64,
    size: u64,
    mut queue: mpsc::Receiver<Bytes>,
) -> Result<Ended, ImageError> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).open(path);
    let file: File = file.map_err(io_error("open", path))?;
    // The writer of a transfer that was given up may not have ended yet.
    file.lock().map_err(io_error("lock", path))?;
    if have == 0 {
        file.set_len(0).map_err(io_error("empty", path))?;
    }
    let mut hashing = Hashing::new(file);
    // Reading to the end leaves the file where the next byte belongs.
    io::copy(&mut Read::by_ref(&mut hashing), &mut io::sink()).map_err(io_error("read", path))?;
    let mut broken = None;
    if hashing.count() != have {
        broken = Some(io::Error::other("the file changed while it was continued"));
    }
    while broken.is_none()
        && let Some(chunk) = queue.blocking_recv()
    {
        hashing.write_all(&chunk).map_err(io_error("write", path))?;
        if hashing.count() > size {
            break;
        }
    }
    let (_, digest, bytes) = hashing.finish();
    Ok(Ended { digest, bytes, broken })
}
