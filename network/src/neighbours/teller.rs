//! Telling one peer: a connection that is made again and again, and on it all that changes.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use limpet_protocol::network::{Neighbour, NeighbourMessage};
use rustix::net::sockopt;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::{MISSED, NeighbourPeer, PORT, View, screen, stream};

/// How long a connection may take: the kernel sends the first packet again after 1 s and after 3 s.
const CONNECT_WITHIN: Duration = Duration::from_secs(4);
/// How long to wait after the first failure; twice as long after each further one.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// The longest wait, at the same site and elsewhere: each try makes the tunnel seek the peer.
const MAX_WAIT_NEAR: Duration = Duration::from_secs(5);
const MAX_WAIT_FAR: Duration = Duration::from_secs(30);

/// Tells a peer, for ever. `awake` says that it is there: it has just connected.
pub(super) async fn tell(
    own: IpAddr,
    peer: NeighbourPeer,
    view: watch::Receiver<Arc<View>>,
    awake: Arc<Notify>,
) {
    let max_wait = if peer.near { MAX_WAIT_NEAR } else { MAX_WAIT_FAR };
    let mut wait = FIRST_WAIT;
    loop {
        if let Ok(Ok(connection)) = timeout(CONNECT_WITHIN, connect(own, &peer)).await {
            wait = FIRST_WAIT;
            // Why a connection ends makes no difference: it is made again.
            drop(converse(connection, &peer, view.clone()).await);
        }
        let again = Instant::now() + jittered(wait);
        wait = (wait * 2).min(max_wait);
        tokio::select! {
            () = sleep_until(again) => {}
            () = awake.notified() => wait = FIRST_WAIT,
        }
    }
}

async fn connect(own: IpAddr, peer: &NeighbourPeer) -> io::Result<TcpStream> {
    let socket = if own.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // By this address the peer knows who it is.
    socket.bind((own, 0).into())?;
    let stream = socket.connect(SocketAddr::new(peer.gateway, PORT)).await?;
    stream.set_nodelay(true)?;
    // What is not acknowledged for so long never will be. TCP alone would wait for a quarter of an hour,
    // and after a partition for half as long as that had lasted.
    let patience_ms = u32::try_from((peer.every() * MISSED).as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(&stream, patience_ms)?;
    Ok(stream)
}

/// Tells all there is, then what changes, and gives signs of life between.
async fn converse(
    mut connection: TcpStream,
    peer: &NeighbourPeer,
    mut view: watch::Receiver<Arc<View>>,
) -> io::Result<()> {
    let within_ms = u32::try_from(peer.every().as_millis()).unwrap_or(u32::MAX);
    let mut told: Option<Neighbour> = None;
    loop {
        let now = screen::told(&view.borrow_and_update().own, peer);
        let state = (told.as_ref() != Some(&now)).then(|| now.clone());
        stream::write(&mut connection, NeighbourMessage { within_ms, state }).await?;
        told = Some(now);
        let next = Instant::now() + peer.every();
        loop {
            tokio::select! {
                changed = view.changed() => {
                    changed.map_err(io::Error::other)?;
                    if told.as_ref() != Some(&screen::told(&view.borrow().own, peer)) {
                        break;
                    }
                }
                () = sleep_until(next) => break,
                // The peer says nothing here; that it ends the connection is seen by this.
                read = connection.read_u8() => { read?; }
            }
        }
    }
}

/// Between half of a time and all of it, so that nodes that were parted do not come back in step.
fn jittered(wait: Duration) -> Duration {
    let random = RandomState::new().hash_one(());
    let half = wait / 2;
    half + half.mul_f64(f64::from(u16::try_from(random & 0xffff).unwrap_or(0)) / 65_536.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_vary_within_bounds() {
        let waits: Vec<_> = (0..100).map(|_| jittered(Duration::from_secs(2))).collect();
        assert!(waits.iter().all(|w| (1000..2000).contains(&w.as_millis())));
        assert!(waits.iter().any(|wait| *wait != waits[0]));
    }
}
