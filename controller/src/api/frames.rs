//! Frames: what travels both ways over the upgraded connection of an exec.
//!
//! A frame is one byte of kind, four bytes of length (big-endian) and so many bytes. The command line
//! reads and writes them with this very code; `docs/protocol.md` describes them for others.
//!
//! | kind | from | payload |
//! |---|---|---|
//! | 0 input | caller | bytes of standard input, one frame for one credit |
//! | 1 input end | caller | nothing |
//! | 2 resize | caller | rows, columns: two bytes each, big-endian |
//! | 3 signal | caller | its number on Linux: one byte |
//! | 16 output | controller | bytes of standard output |
//! | 17 error output | controller | bytes of standard error |
//! | 18 credit | controller | how many more input frames may be sent: two bytes, big-endian |
//! | 19 end | controller | [`ExecEnd`](super::types::ExecEnd) as JSON |

use limpet_protocol::limits::MAX_CALL_CHUNK_BYTES;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::types::ExecEnd;

/// The protocol's name in the header `Upgrade`.
pub const UPGRADE: &str = "limpet-exec";
/// Bytes before the payload.
const HEAD_BYTES: usize = 5;
/// Largest payload.
const MAX_PAYLOAD_BYTES: usize = MAX_CALL_CHUNK_BYTES;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Bytes of standard input.
    Input(Vec<u8>),
    /// There is no more input.
    InputEnd,
    /// The terminal has this many rows and columns.
    Resize(u16, u16),
    /// Send this signal.
    Signal(u8),
    /// Bytes of standard output.
    Output(Vec<u8>),
    /// Bytes of standard error.
    ErrorOutput(Vec<u8>),
    /// So many more input frames may be sent.
    Credit(u16),
    /// The command has ended.
    End(ExecEnd),
}

/// Bytes that are no frame, or a connection that broke.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// A kind or a payload that is none.
    #[error("not a frame of an exec")]
    Malformed,
    /// The connection.
    #[error("the connection broke")]
    Io(#[from] std::io::Error),
}

impl Frame {
    fn kind(&self) -> u8 {
        match self {
            Self::Input(_) => 0,
            Self::InputEnd => 1,
            Self::Resize(..) => 2,
            Self::Signal(_) => 3,
            Self::Output(_) => 16,
            Self::ErrorOutput(_) => 17,
            Self::Credit(_) => 18,
            Self::End(_) => 19,
        }
    }

    fn parse(kind: u8, payload: Vec<u8>) -> Option<Self> {
        let number = |at: usize| Some(u16::from_be_bytes(*payload[at..].first_chunk()?));
        Some(match (kind, payload.len()) {
            (0, _) => Self::Input(payload),
            (1, 0) => Self::InputEnd,
            (2, 4) => Self::Resize(number(0)?, number(2)?),
            (3, 1) => Self::Signal(payload[0]),
            (16, _) => Self::Output(payload),
            (17, _) => Self::ErrorOutput(payload),
            (18, 2) => Self::Credit(number(0)?),
            (19, _) => Self::End(serde_json::from_slice(&payload).ok()?),
            _ => return None,
        })
    }

    /// Writes this frame.
    ///
    /// # Errors
    /// [`FrameError`] if the connection broke, or the payload is larger than any may be.
    pub async fn write(&self, to: &mut (impl AsyncWrite + Unpin)) -> Result<(), FrameError> {
        let small: [u8; 4];
        let json;
        let payload: &[u8] = match self {
            Self::Input(data) | Self::Output(data) | Self::ErrorOutput(data) => data,
            Self::InputEnd => &[],
            Self::Resize(rows, columns) => {
                let ([a, b], [c, d]) = (rows.to_be_bytes(), columns.to_be_bytes());
                small = [a, b, c, d];
                &small
            }
            Self::Signal(number) => std::slice::from_ref(number),
            Self::Credit(chunks) => &chunks.to_be_bytes().clone(),
            Self::End(end) => {
                json = serde_json::to_vec(end).map_err(|_| FrameError::Malformed)?;
                &json
            }
        };
        let length = u32::try_from(payload.len()).ok();
        let length = length.filter(|_| payload.len() <= MAX_PAYLOAD_BYTES);
        let mut bytes = Vec::with_capacity(HEAD_BYTES + payload.len());
        bytes.push(self.kind());
        bytes.extend_from_slice(&length.ok_or(FrameError::Malformed)?.to_be_bytes());
        bytes.extend_from_slice(payload);
        to.write_all(&bytes).await?;
        Ok(to.flush().await?)
    }

    /// Reads the next frame; none at the end of the connection. Not cancel-safe: what was read of a
    /// frame is gone.
    ///
    /// # Errors
    /// [`FrameError`] if the connection broke, or its bytes are no frame.
    pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> Result<Option<Self>, FrameError> {
        let mut head = [0; HEAD_BYTES];
        if from.read(&mut head[..1]).await? == 0 {
            return Ok(None);
        }
        from.read_exact(&mut head[1..]).await?;
        let [kind, length @ ..] = head;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > MAX_PAYLOAD_BYTES {
            return Err(FrameError::Malformed);
        }
        let mut payload = vec![0; length];
        from.read_exact(&mut payload).await?;
        Self::parse(kind, payload).map(Some).ok_or(FrameError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_come_back_as_they_were() {
        let frames = [
            Frame::Input(b"in".to_vec()),
            Frame::Input(Vec::new()),
            Frame::InputEnd,
            Frame::Resize(24, 300),
            Frame::Signal(15),
            Frame::Output(vec![7; MAX_PAYLOAD_BYTES]),
            Frame::ErrorOutput(b"err".to_vec()),
            Frame::Credit(513),
            Frame::End(ExecEnd { exit_code: Some(3), error: None }),
        ];
        let mut bytes = Vec::new();
        for frame in &frames {
            frame.write(&mut bytes).await.unwrap();
        }
        assert_eq!(bytes[..7], [0, 0, 0, 0, 2, b'i', b'n']);
        let mut rest = bytes.as_slice();
        for frame in frames {
            assert_eq!(Frame::read(&mut rest).await.unwrap(), Some(frame));
        }
        assert_eq!(Frame::read(&mut rest).await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_no_frame_is_refused() {
        let table: [&[u8]; 7] = [
            &[0, 255, 255, 255, 255],
            &[0, 0, 0, 64, 1],
            &[9, 0, 0, 0, 0],
            &[2, 0, 0, 0, 1, 7],
            &[18, 0, 0, 0, 0],
            &[19, 0, 0, 0, 1, b'x'],
            &[0, 0, 0, 0, 2, 1],
        ];
        for bytes in table {
            assert!(Frame::read(&mut &*bytes).await.is_err(), "{bytes:?}");
        }
        let large = Frame::Input(vec![0; MAX_PAYLOAD_BYTES + 1]);
        assert!(large.write(&mut Vec::new()).await.is_err());
    }
}
