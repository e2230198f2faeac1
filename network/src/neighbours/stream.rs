//! Messages on a connection: four bytes of length, the highest first, then CBOR.

use std::io;

use limpet_protocol::codec;
use limpet_protocol::limits::MAX_PAYLOAD_BYTES;
use limpet_protocol::network::NeighbourMessage;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Reads one message. Its length is believed up to the limit of all messages.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<NeighbourMessage> {
    let length = usize::try_from(stream.read_u32().await?).map_err(io::Error::other)?;
    if length > MAX_PAYLOAD_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "longer than any message"));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    codec::decode(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Writes one message. One that would be too long is cut: what is ready stays before what is not, and the
/// peer knows of fewer instances than there are.
pub(super) async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    mut message: NeighbourMessage,
) -> io::Result<()> {
    if let Some(state) = &mut message.state {
        state.instances.sort_by_key(|instance| !instance.ready);
    }
    let bytes = loop {
        match (codec::encode(&message), &mut message.state) {
            (Ok(bytes), _) => break bytes,
            (Err(_), Some(state)) if !state.instances.is_empty() => {
                state.instances.truncate(state.instances.len() * 3 / 4);
            }
            (Err(error), _) => return Err(io::Error::other(error)),
        }
    };
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), bytes.as_slice()].concat()).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use limpet_protocol::network::{Neighbour, NeighbourInstance};

    fn instances(count: u32, name: &str) -> Vec<NeighbourInstance> {
        let instance = |slot| NeighbourInstance {
            instance: format!("shop.web.{slot}").parse().unwrap(),
            attempt: 1,
            addresses: vec!["10.129.2.7".parse().unwrap()],
            networks: vec!["front".parse().unwrap()],
            hostname: Some(name.to_owned()),
            ready: slot % 2 == 0,
        };
        (0..count).map(instance).collect()
    }

    async fn round_trip(message: NeighbourMessage) -> NeighbourMessage {
        let mut bytes = vec![];
        write(&mut bytes, message).await.unwrap();
        let mut rest = bytes.as_slice();
        let read = read(&mut rest).await.unwrap();
        assert!(rest.is_empty());
        read
    }

    #[tokio::test]
    async fn messages_come_as_they_were_sent_and_too_many_instances_are_cut() {
        let sign = NeighbourMessage { within_ms: 1000, state: None };
        assert_eq!(round_trip(sign.clone()).await, sign);
        let few = |name| Neighbour { instances: instances(2, name) };
        let message = NeighbourMessage { within_ms: 1, state: Some(few("a")) };
        assert_eq!(round_trip(message.clone()).await, message);
        let many = Neighbour { instances: instances(500, &"x".repeat(1000)) };
        let read = round_trip(NeighbourMessage { within_ms: 1, state: Some(many) }).await;
        let left = read.state.unwrap().instances;
        assert!((200..500).contains(&left.len()));
        assert!(left[..200].iter().all(|instance| instance.ready));
    }

    #[tokio::test]
    async fn what_is_no_message_is_an_error() {
        for bytes in [
            &[][..],
            &[0, 0, 0],
            &[0, 0, 0, 0],
            &[0, 0, 0, 1],
            &[0xff, 0xff, 0xff, 0xff, 1],
            &[0, 0, 0, 1, 0xa0],
            &[0, 0, 0, 3, 0xa1, 0x61, 0x77],
        ] {
            assert!(read(&mut &*bytes).await.is_err(), "{bytes:?}");
        }
    }
}
