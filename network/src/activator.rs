//! Connections to services that have no instance just now: taken here, and passed on when one is ready.
//!
//! In: connections that the rules lead to [`PORT`] of the gateway address, and what leads where
//! ([`Doors`]). Out: which service is needed, and then bytes, to and fro. The idea is Knative's activator.
//! The service sees the node's address as the source of such a connection; the next ones do without. Only
//! TCP is held: a datagram is sent again by who needs an answer.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::picture::{Addresses, Picture, ServiceKey};

/// Where connections are held, on the gateway addresses: the number after that of the neighbours.
pub const PORT: u16 = 7947;
/// Connections at a time. Each costs two descriptors and two buffers; who comes next waits in the
/// kernel's queue.
const MAX_CONNECTIONS: usize = 256;
/// Bytes on their way in each direction of a connection.
const BUFFER_BYTES: usize = 16 * 1024;
/// How long a connection is held: an image may have to be unpacked.
const HOLD: Duration = Duration::from_secs(60);
/// How long an endpoint may take to accept before the next is tried.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// How soon an endpoint that did not accept is tried again.
const CONNECT_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// How long to wait when no connection can be accepted: the process has no descriptors left.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// A service that may have no instance, and those that are ready.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Behind {
    service: ServiceKey,
    /// The port of the instances; none is the one that was asked for.
    port: Option<u16>,
    ready: Vec<Addresses>,
}

/// What leads to services that may have no instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Doors {
    by_address: BTreeMap<IpAddr, Behind>,
    by_port: BTreeMap<u16, Behind>,
}

impl Doors {
    /// The doors of a picture.
    #[must_use]
    pub fn of(picture: &Picture) -> Self {
        let mut doors = Self::default();
        for (key, service) in picture.services.iter().filter(|(_, service)| service.wakes) {
            let ready = picture.endpoints(key).into_iter().map(|(_, it)| it.addresses).collect();
            let behind = Behind { service: key.clone(), port: None, ready };
            let address = service.virtual_address;
            let addresses = [Some(IpAddr::V4(address.v4)), address.v6.map(IpAddr::V6)];
            for address in addresses.into_iter().flatten() {
                doors.by_address.insert(address, behind.clone());
            }
            for port in service.ports.iter().filter(|port| !port.udp && !port.host_mode) {
                let Some((published, _)) = port.published else { continue };
                let behind = Behind { port: Some(port.target), ..behind.clone() };
                doors.by_port.insert(published, behind);
            }
        }
        doors
    }

    fn behind(&self, asked: SocketAddr) -> Option<&Behind> {
        self.by_address.get(&asked.ip()).or_else(|| self.by_port.get(&asked.port()))
    }

    /// The service that a connection was meant for.
    #[must_use]
    pub fn service(&self, asked: SocketAddr) -> Option<&ServiceKey> {
        self.behind(asked).map(|behind| &behind.service)
    }

    /// Where it can be passed on to now.
    #[must_use]
    pub fn ways(&self, asked: SocketAddr) -> Vec<SocketAddr> {
        let Some(behind) = self.behind(asked) else { return vec![] };
        let port = behind.port.unwrap_or_else(|| asked.port());
        let address = |it: &Addresses| Picture::address_of(it, asked.is_ipv6());
        behind.ready.iter().filter_map(address).map(|it| SocketAddr::new(it, port)).collect()
    }
}

/// Holds connections until the doors' sender is gone or the future is dropped.
///
/// # Errors
/// The address is taken, or not the node's.
pub async fn run(
    listen: SocketAddr,
    doors: watch::Receiver<Arc<Doors>>,
    needed: mpsc::Sender<ServiceKey>,
) -> io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    let mut connections = JoinSet::new();
    let mut gone = doors.clone();
    loop {
        tokio::select! {
            changed = gone.changed() => if changed.is_err() { return Ok(()) },
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(hold(stream, doors.clone(), needed.clone()));
                }
                Err(_) => sleep(ACCEPT_AGAIN_AFTER).await,
            }
        }
    }
}

async fn hold(
    mut stream: TcpStream,
    doors: watch::Receiver<Arc<Doors>>,
    needed: mpsc::Sender<ServiceKey>,
) {
    let asked = meant(&stream);
    let other = async {
        let asked = asked.ok()?;
        timeout(HOLD, connect(asked, doors, needed)).await.ok().flatten()
    };
    let Some(mut other) = other.await else {
        // Nobody is there: the connection is refused as far as that can be done now.
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).ok();
        return;
    };
    stream.set_nodelay(true).and_then(|()| other.set_nodelay(true)).ok();
    // How it ends is the business of the two ends.
    copy_bidirectional_with_sizes(&mut stream, &mut other, BUFFER_BYTES, BUFFER_BYTES).await.ok();
}

/// Where a connection was meant to go before the rules led it here (`SO_ORIGINAL_DST`).
fn meant(stream: &TcpStream) -> io::Result<SocketAddr> {
    let socket = socket2::SockRef::from(stream);
    let address = match stream.local_addr()? {
        SocketAddr::V4(_) => socket.original_dst_v4()?,
        SocketAddr::V6(_) => socket.original_dst_v6()?,
    };
    address.as_socket().ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Says that the service is needed and connects as soon as somebody is ready.
async fn connect(
    asked: SocketAddr,
    mut doors: watch::Receiver<Arc<Doors>>,
    needed: mpsc::Sender<ServiceKey>,
) -> Option<TcpStream> {
    loop {
        let now = Arc::clone(&doors.borrow_and_update());
        let service = now.service(asked)?;
        let ways = now.ways(asked);
        for way in &ways {
            if let Ok(Ok(stream)) = timeout(CONNECT_WITHIN, TcpStream::connect(*way)).await {
                return Some(stream);
            }
        }
        needed.send(service.clone()).await.ok()?;
        // One that runs may not listen yet: without a probe nobody says when it does.
        let again = if ways.is_empty() { HOLD } else { CONNECT_AGAIN_AFTER };
        if let Ok(changed) = timeout(again, doors.changed()).await {
            changed.ok()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use limpet_protocol::spec::{EndpointMode, PublishedPort};

    use super::*;
    use crate::picture::{Instance, Place, Service};

    fn addresses(last: u8) -> Addresses {
        Addresses { v4: [10, 129, 0, last].into(), v6: None }
    }

    fn picture(wakes: bool, ready: bool) -> Picture {
        let ports = vec![PublishedPort {
            target: 80,
            published: Some((8080, 8080)),
            host_ip: None,
            udp: false,
            host_mode: false,
        }];
        let service = Service {
            networks: BTreeMap::new(),
            virtual_address: Addresses { v4: [10, 128, 0, 9].into(), v6: None },
            mode: EndpointMode::Vip,
            spread: false,
            wakes,
            ports,
        };
        let instance = Instance {
            addresses: addresses(7),
            networks: BTreeSet::new(),
            hostname: "web".into(),
            ready,
            place: Place::Site("n2".parse().unwrap()),
        };
        Picture {
            pool: "10.128.0.0/10".parse().unwrap(),
            pool6: "fd00::/48".parse().unwrap(),
            subnet: "10.129.0.0/24".parse().unwrap(),
            subnet6: "fd00:0:0:1::/64".parse().unwrap(),
            gateway: addresses(1),
            virtual_addresses: "10.128.0.0/16".parse().unwrap(),
            virtual_addresses6: "fd00::/64".parse().unwrap(),
            services: [(("shop".parse().unwrap(), "web".parse().unwrap()), service)].into(),
            instances: [(("shop.web.1".parse().unwrap(), 1), instance)].into(),
            peers: BTreeMap::new(),
            guarded: BTreeSet::new(),
        }
    }

    #[test]
    fn a_connection_is_passed_on_by_where_it_was_meant_to_go() {
        let asked = |text: &str| text.parse::<SocketAddr>().unwrap();
        for (wakes, ready, to, expected) in [
            (true, true, "10.128.0.9:81", Some("10.129.0.7:81")),
            (true, true, "192.0.2.1:8080", Some("10.129.0.7:80")),
            (true, false, "192.0.2.1:8080", None),
            (true, true, "192.0.2.1:8081", None),
            (false, true, "10.128.0.9:81", None),
        ] {
            let doors = Doors::of(&picture(wakes, ready));
            let ways: Vec<String> = doors.ways(asked(to)).iter().map(ToString::to_string).collect();
            assert_eq!(ways, Vec::from_iter(expected), "{wakes} {ready} {to}");
            let known = wakes && to != "192.0.2.1:8081";
            assert_eq!(doors.service(asked(to)).is_some(), known, "{to}");
        }
    }
}
