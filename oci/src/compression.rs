//! Compression: a reader of whatever form the bytes are in, with bounds against bombs.
//!
//! In: a stream that is plain, gzip or zstd, told apart by its first bytes. Out: a plain stream
//! that fails once it grows out of proportion. Also a meter for tar headers, since a tar parser
//! holds a long name in memory whatever its length.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::StreamingDecoder;

/// The form that bytes are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
    Plain,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// Growth below this is not looked at: small streams of zeros shrink without bound.
const FREE_BYTES: u64 = 256 * 1024 * 1024;
/// Largest growth beyond that. Real layers grow 2 to 10 times, deflate at its limit 1032 times.
const MAX_RATIO: u64 = 100;
/// Largest zstd window, which is memory: what `zstd -19 --long` needs at most, and registries allow.
const MAX_ZSTD_WINDOW_BYTES: u64 = 128 * 1024 * 1024;
/// Most bytes of headers before one entry of a tar file: long names and PAX records (xattrs).
const MAX_HEADER_BYTES: u64 = 1024 * 1024;

impl Compression {
    /// Tells the form by the first bytes.
    #[must_use]
    pub fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }

    /// What a layer's media type has behind `tar`.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Gzip => "+gzip",
            Self::Zstd => "+zstd",
        }
    }
}

/// Reads the stream in its plain form.
///
/// # Errors
/// If the first bytes cannot be read, or are no zstd frame though they say so.
pub fn plain<'a>(reader: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let taken = Rc::new(Cell::new(0));
    let mut reader = BufReader::new(Counting { inner: reader, count: Rc::clone(&taken) });
    let form = Compression::of(reader.fill_buf()?);
    let inner: Box<dyn Read + 'a> = match form {
        Compression::Plain => return Ok(Box::new(reader)),
        Compression::Gzip => Box::new(MultiGzDecoder::new(reader)),
        Compression::Zstd => Box::new(Frames { source: Some(reader), frame: None }),
    };
    Ok(Box::new(Bounded { inner, taken, given: 0 }))
}

struct Counting<R> {
    inner: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        self.count.set(self.count.get() + read as u64);
        Ok(read)
    }
}

struct Bounded<R> {
    inner: R,
    taken: Rc<Cell<u64>>,
    given: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        self.given += read as u64;
        if self.given > FREE_BYTES + self.taken.get().saturating_mul(MAX_RATIO) {
            let message = "the compressed stream grows more than a hundredfold: refused as a bomb";
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(read)
    }
}

/// One zstd frame after another, as parallel compressors write them.
struct Frames<R: Read> {
    source: Option<R>,
    frame: Option<StreamingDecoder<R, ruzstd::decoding::FrameDecoder>>,
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some(frame) = &mut self.frame {
                let read = frame.read(buf)?;
                if read > 0 {
                    return Ok(read);
                }
                self.source = self.frame.take().map(StreamingDecoder::into_inner);
            }
            let Some(mut source) = self.source.take() else { return Ok(0) };
            if source.fill_buf()?.is_empty() {
                self.source = Some(source);
                return Ok(0);
            }
            let frame = StreamingDecoder::new_with_max_window_size(source, MAX_ZSTD_WINDOW_BYTES);
            self.frame = Some(frame.map_err(|error| {
                io::Error::new(io::ErrorKind::InvalidData, format!("zstd: {error}"))
            })?);
        }
    }
}

/// Bounds what a tar parser may read between two entries.
#[derive(Debug, Clone, Default)]
pub struct HeaderMeter {
    left: Rc<Cell<Option<u64>>>,
}

impl HeaderMeter {
    /// The reader that a tar parser is given.
    pub fn watch<R: Read>(&self, inner: R) -> impl Read + use<R> {
        Metered { inner, left: Rc::clone(&self.left) }
    }

    /// Runs a step that reads headers only, such as `Entries::next`.
    pub fn headers<T>(&self, step: impl FnOnce() -> T) -> T {
        self.left.set(Some(MAX_HEADER_BYTES));
        let result = step();
        self.left.set(None);
        result
    }
}

struct Metered<R> {
    inner: R,
    left: Rc<Cell<Option<u64>>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        if let Some(left) = self.left.get() {
            let Some(rest) = left.checked_sub(read as u64) else {
                let message = "the headers of an entry are larger than 1 MiB";
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            };
            self.left.set(Some(rest));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read_all(bytes: &[u8]) -> io::Result<u64> {
        io::copy(&mut plain(bytes)?, &mut io::sink())
    }

    #[test]
    fn every_form_is_read() {
        let content = b"some content".repeat(1000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&content).unwrap();
        let gzip = gzip.finish().unwrap();
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        let zstd = ruzstd::encoding::compress_to_vec(content.as_slice(), level);
        let two_frames = [zstd.clone(), zstd.clone()].concat();
        let two_members = [gzip.clone(), gzip.clone()].concat();
        for (bytes, times) in
            [(&content, 1), (&gzip, 1), (&zstd, 1), (&two_frames, 2), (&two_members, 2)]
        {
            let mut read = Vec::new();
            plain(bytes.as_slice()).unwrap().read_to_end(&mut read).unwrap();
            assert!(read == content.repeat(times));
        }
        for whole in [&gzip, &zstd] {
            assert!(read_all(&whole[..whole.len() - 3]).is_err(), "truncated");
        }
        assert_eq!(read_all(b"").unwrap(), 0);
    }

    #[test]
    fn a_bomb_is_refused() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::copy(&mut io::repeat(0).take(FREE_BYTES * 2), &mut gzip).unwrap();
        let error = read_all(&gzip.finish().unwrap()).unwrap_err();
        assert!(error.to_string().contains("bomb"), "{error}");
    }
}
