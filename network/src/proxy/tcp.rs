//! Connections: taken, and passed on to the next endpoint that takes them.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Endpoints, in_turn};

/// Connections of one port at a time. Each costs two descriptors and two buffers.
const MAX_CONNECTIONS: usize = 256;
/// Bytes on their way in each direction of a connection.
const BUFFER_BYTES: usize = 16 * 1024;
/// How long an endpoint may take to accept before the next is tried.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// How long to wait when no connection can be accepted: the process has no descriptors left.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Listens and passes on; ends only when it cannot listen.
pub(super) async fn serve(address: SocketAddr, endpoints: Endpoints) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let mut connections = JoinSet::new();
    let mut turn = 0;
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            // With all places taken, who comes next waits in the kernel's queue.
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(pass_on(stream, in_turn(&endpoints, &mut turn)));
                }
                Err(_) => sleep(ACCEPT_AGAIN_AFTER).await,
            }
        }
    }
}

async fn pass_on(mut stream: TcpStream, endpoints: Vec<SocketAddr>) {
    for endpoint in endpoints {
        if let Ok(Ok(mut other)) = timeout(CONNECT_WITHIN, TcpStream::connect(endpoint)).await {
            stream.set_nodelay(true).and_then(|()| other.set_nodelay(true)).ok();
            // How it ends is the business of the two ends.
            copy_bidirectional_with_sizes(&mut stream, &mut other, BUFFER_BYTES, BUFFER_BYTES)
                .await
                .ok();
            return;
        }
    }
    // Nobody is there: the connection is refused as far as that can be done now.
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).ok();
}
