//! A place with a tunnel: a node.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use limpet_network::picture::Addresses;
use limpet_network::tunnel::{PeerStatus, PrivateKey, Tunnel, TunnelPeer, TunnelSettings};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::place::{PATIENCE, Place};

pub(super) const PORT: u16 = 51_820;
pub(super) const DEVICE: &str = "lwtest";
/// How long what is said not to arrive is waited for. On a machine that is too slow for it the test
/// passes for the wrong reason, never fails for one.
const NOTHING_WITHIN: Duration = Duration::from_millis(300);
/// How often what may be lost is sent again.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
const ECHO: u16 = 7;

/// One node: its namespace, its tunnel, its gateway addresses.
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) address: IpAddr,
    pub(super) address6: IpAddr,
    number: u8,
    key: PrivateKey,
    tunnel: RefCell<Option<Tunnel>>,
    over: Arc<AtomicBool>,
}

/// Two nodes on one wire.
pub(crate) fn pair() -> Option<[Node; 2]> {
    let [a, b] = [Node::new(1)?, Node::new(2)?];
    a.place.wire(&b.place, "wire", ["198.18.0.1/24", "198.18.0.2/24"]);
    Some([a, b])
}

/// The addresses of the node that has this one.
pub(super) fn addresses(v4: IpAddr) -> Addresses {
    let IpAddr::V4(v4) = v4 else { panic!("an IPv4 address") };
    Addresses { v4, v6: None }
}

impl Node {
    fn new(number: u8) -> Option<Self> {
        let place = Place::new()?;
        let address = IpAddr::from([10, 129, number, 1]);
        let address6: IpAddr = format!("fd00:0:0:{number}::1").parse().unwrap();
        place.ip(&format!("address add {address}/32 dev lo"));
        place.ip(&format!("address add {address6}/128 dev lo nodad"));
        let node = Self {
            place,
            address,
            address6,
            number,
            key: PrivateKey::make().unwrap(),
            tunnel: RefCell::default(),
            over: Arc::default(),
        };
        node.open();
        Some(node)
    }

    pub(super) fn settings(key: PrivateKey, kernel: bool) -> TunnelSettings {
        TunnelSettings {
            device: DEVICE.into(),
            key,
            port: PORT,
            routes: vec!["10.128.0.0/10".parse().unwrap(), "fd00::/48".parse().unwrap()],
            source: None,
            kernel,
        }
    }

    fn open(&self) {
        let mut settings = Self::settings(self.key.clone(), false);
        let IpAddr::V6(v6) = self.address6 else { panic!("an IPv6 address") };
        settings.source = Some(Addresses { v6: Some(v6), ..addresses(self.address) });
        let tunnel = self.place.run(|| Tunnel::open(settings)).unwrap();
        self.tunnel.replace(Some(tunnel));
    }

    pub(super) fn restart(&mut self) {
        self.tunnel.replace(None);
        self.open();
    }

    /// Where it is on the wire.
    pub(super) fn outside(&self) -> SocketAddr {
        (IpAddr::from([198, 18, 0, self.number]), PORT).into()
    }

    /// As others know it.
    pub(crate) fn peer(&self) -> TunnelPeer {
        let n = self.number;
        TunnelPeer {
            key: self.key.public(),
            endpoints: vec![self.outside()],
            allowed: vec![
                format!("10.129.{n}.0/24").parse().unwrap(),
                format!("fd00:0:0:{n}::/64").parse().unwrap(),
            ],
            keepalive: None,
        }
    }

    pub(crate) fn know(&self, peers: &[TunnelPeer]) {
        self.tunnel.borrow_mut().as_mut().unwrap().set_peers(peers).unwrap();
    }

    pub(super) fn status(&self) -> Vec<PeerStatus> {
        self.tunnel.borrow().as_ref().unwrap().status().unwrap()
    }

    /// Sends back what comes to the gateway address, until the test ends.
    pub(super) fn echo(&self) {
        self.echo_at(self.address);
    }

    pub(super) fn echo_at(&self, address: IpAddr) {
        let over = Arc::clone(&self.over);
        self.place.run(move || {
            let socket = UdpSocket::bind((address, ECHO)).unwrap();
            socket.set_read_timeout(Some(AGAIN_AFTER)).unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0; 2048];
                while !over.load(Ordering::Relaxed) {
                    if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                        drop(socket.send_to(&buffer[..length], from));
                    }
                }
            });
        });
    }

    /// Sends until it comes back.
    pub(super) fn ping(&self, other: &Self) {
        self.ping_at(other.address);
    }

    pub(super) fn ping_at(&self, to: IpAddr) {
        self.ping_with(to, b"ping");
    }

    pub(super) fn ping_with(&self, to: IpAddr, packet: &'static [u8]) {
        let tries = PATIENCE.as_millis() / AGAIN_AFTER.as_millis();
        let came = self.round_trip(to, packet, AGAIN_AFTER, tries);
        assert!(came, "nothing came back from {to}");
    }

    /// Whether a packet comes back soon.
    pub(super) fn reaches(&self, to: IpAddr) -> bool {
        self.round_trip(to, b"ping", NOTHING_WITHIN, 1)
    }

    fn round_trip(&self, to: IpAddr, packet: &'static [u8], wait: Duration, tries: u128) -> bool {
        // The kernel takes the gateway's address by itself.
        self.place.run(move || {
            let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
            let socket = UdpSocket::bind((any, 0)).unwrap();
            socket.set_read_timeout(Some(wait)).unwrap();
            if socket.connect((to, ECHO)).is_err() {
                return false;
            }
            let mut buffer = [0; 2048];
            (0..tries).any(|_| {
                let sent = socket.send(packet);
                if sent.is_err() {
                    std::thread::sleep(wait);
                }
                matches!(socket.recv(&mut buffer), Ok(length) if buffer[..length] == *packet)
            })
        })
    }

    /// Sends one packet, again until it is let out.
    pub(super) fn say(&self, from: SocketAddr, to: SocketAddr, text: &'static str) {
        self.place.run(move || {
            UdpSocket::bind(from).unwrap().send_to(text.as_bytes(), to).unwrap();
        });
    }

    /// What comes to port 9.
    pub(super) fn listen(&self) -> Heard {
        let address = self.address;
        let socket = self.place.run(move || UdpSocket::bind((address, 9)).unwrap());
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Heard(socket)
    }

    /// Connects, says something and waits until the other side has had enough or has taken it.
    pub(crate) fn converse(&self, from: IpAddr, to: SocketAddr, said: Vec<u8>) {
        let talk = move || async move {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind((from, 0).into()).unwrap();
            let mut stream = socket.connect(to).await.unwrap();
            drop(stream.write_all(&said).await);
            drop(stream.shutdown().await);
            drop(stream.read(&mut [0; 1]).await);
        };
        self.place.run_async(talk);
    }

    /// Sends packets that look like the protocol's and are not.
    pub(super) fn throw_garbage_at(&self, to: SocketAddr) {
        self.place.run(move || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            for kind in 0..6_u8 {
                for length in [0, 1, 4, 16, 31, 32, 64, 92, 147, 148, 149, 1400] {
                    let mut packet = vec![0xa5; length];
                    packet.iter_mut().zip([kind, 0, 0, 0]).for_each(|(byte, value)| *byte = value);
                    match socket.send_to(&packet, to) {
                        Err(error) if error.kind() != ErrorKind::ConnectionRefused => {
                            panic!("{error}")
                        }
                        _ => {}
                    }
                }
            }
        });
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// A socket that listens.
pub(super) struct Heard(UdpSocket);

impl Heard {
    pub(super) fn next(&self) -> String {
        let mut buffer = [0; 64];
        let length = self.0.recv(&mut buffer).expect("something came");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }
}
