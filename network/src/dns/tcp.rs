//! Questions over TCP: each with its length before it (RFC 1035, section 4.2.2; RFC 7766).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{Id, JoinSet};
use tokio::time::{sleep, timeout};

use super::desk::{Desk, Handled};
use super::message::MAX_QUERY_BYTES;

/// Connections at a time, in all.
const MAX_CONNECTIONS: usize = 64;
/// Connections at a time of one container.
const MAX_OF_ONE: usize = 8;
/// How long a connection may be idle, or take for one question or answer (RFC 7766, section 6.2.3 asks for
/// seconds).
const IDLE: Duration = Duration::from_secs(10);
/// The longest message with its length before it.
const MAX_ANSWER_BYTES: usize = u16::MAX as usize;
/// How long to wait when no connection can be accepted: the process has no descriptors left.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Accepts connections and answers what comes on them.
pub(super) async fn serve(desk: Arc<Desk>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    let mut owners: HashMap<Id, IpAddr> = HashMap::new();
    loop {
        tokio::select! {
            Some(ended) = connections.join_next_with_id() => {
                let id = match ended {
                    Ok((id, ())) => id,
                    Err(error) => error.id(),
                };
                owners.remove(&id);
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => {
                    let from = from.ip();
                    let of_one = owners.values().filter(|owner| **owner == from).count();
                    // Closed at once: who asks comes again.
                    if owners.len() < MAX_CONNECTIONS && of_one < MAX_OF_ONE {
                        let task = connections.spawn(converse(Arc::clone(&desk), stream, from));
                        owners.insert(task.id(), from);
                    }
                }
                Err(_) => sleep(ACCEPT_AGAIN_AFTER).await,
            }
        }
    }
}

/// One connection, until it ends, is idle, or says something that is no question.
async fn converse(desk: Arc<Desk>, mut stream: TcpStream, from: IpAddr) {
    while let Ok(Some(question)) = timeout(IDLE, read(&mut stream)).await {
        let reply = match desk.handle(from, &question, Some(MAX_ANSWER_BYTES)) {
            Handled::Ignore => return,
            Handled::Reply(reply) => reply,
            Handled::Forward(forward) => forward.ask(MAX_ANSWER_BYTES).await,
        };
        let Ok(length) = u16::try_from(reply.len()) else { return };
        let framed = [&length.to_be_bytes(), reply.as_slice()].concat();
        if !matches!(timeout(IDLE, stream.write_all(&framed)).await, Ok(Ok(()))) {
            return;
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let length = usize::from(stream.read_u16().await.ok()?);
    if length > MAX_QUERY_BYTES {
        return None;
    }
    let mut question = vec![0; length];
    stream.read_exact(&mut question).await.ok()?;
    Some(question)
}
