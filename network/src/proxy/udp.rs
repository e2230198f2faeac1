//! Packets: those of one client go to one endpoint, and what that answers goes back.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::{Endpoints, in_turn};

/// Clients of one port at a time. Each costs a descriptor and a buffer.
const MAX_CLIENTS: usize = 256;
/// How long a client is remembered after its last packet: as the kernel does for one that was answered
/// (`nf_conntrack_udp_timeout_stream`).
const IDLE: Duration = Duration::from_secs(120);
/// The largest packet.
const MAX_PACKET_BYTES: usize = 65_535;

/// A client and the socket that speaks for it.
struct Client {
    socket: Arc<UdpSocket>,
    endpoint: SocketAddr,
    task: AbortHandle,
}

/// Listens and passes on; ends only when it cannot listen.
pub(super) async fn serve(address: SocketAddr, endpoints: Endpoints) -> io::Result<()> {
    let entrance = Arc::new(UdpSocket::bind(address).await?);
    let mut clients: HashMap<SocketAddr, Client> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut buffer = vec![0; MAX_PACKET_BYTES];
    let mut turn = 0;
    loop {
        tokio::select! {
            Some(ended) = tasks.join_next_with_id() => {
                let id = match ended {
                    Ok((id, ())) => id,
                    Err(error) => error.id(),
                };
                clients.retain(|_, client| client.task.id() != id);
            }
            received = entrance.recv_from(&mut buffer) => {
                // An error belongs to an answer that did not arrive.
                let Ok((length, from)) = received else { continue };
                // Its endpoint is gone: it gets another.
                let lost = |client: &Client| !endpoints.borrow().contains(&client.endpoint);
                if clients.get(&from).is_some_and(lost)
                    && let Some(client) = clients.remove(&from)
                {
                    client.task.abort();
                }
                if !clients.contains_key(&from) && tasks.len() < MAX_CLIENTS {
                    let next = in_turn(&endpoints, &mut turn).first().copied();
                    if let Some((socket, endpoint)) = open(next).await {
                        let answer = answer(Arc::clone(&socket), Arc::clone(&entrance), from);
                        let task = tasks.spawn(answer);
                        clients.insert(from, Client { socket, endpoint, task });
                    }
                }
                if let Some(client) = clients.get(&from) {
                    client.socket.try_send(&buffer[..length]).ok();
                }
            }
        }
    }
}

/// A socket to an endpoint.
async fn open(endpoint: Option<SocketAddr>) -> Option<(Arc<UdpSocket>, SocketAddr)> {
    let endpoint = endpoint?;
    let any: IpAddr = match endpoint {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await.ok()?;
    socket.connect(endpoint).await.ok()?;
    Some((Arc::new(socket), endpoint))
}

/// Hands back what the endpoint answers, until nothing comes and nothing is sent any more for a while.
async fn answer(socket: Arc<UdpSocket>, entrance: Arc<UdpSocket>, client: SocketAddr) {
    while let Ok(Ok(())) = timeout(IDLE, socket.readable()).await {
        // Room only while there is something: most clients are silent most of the time.
        let mut buffer = vec![0; MAX_PACKET_BYTES];
        match socket.try_recv(&mut buffer) {
            Ok(length) => {
                entrance.try_send_to(&buffer[..length], client).ok();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // The endpoint does not listen.
            Err(_) => return,
        }
    }
}
