//! Published ports without the kernel's help, on the loopback device of a namespace.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use limpet_network::proxy::{self, Entrance, Problem, Ways};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_local;

use crate::place::Place;

const DOOR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

fn endpoint(number: u8) -> SocketAddr {
    ([127, 0, 1, number], 80).into()
}

/// Says its number to who connects or sends, and repeats what it hears.
async fn instance(number: u8) -> Arc<AtomicUsize> {
    let tcp = TcpListener::bind(endpoint(number)).await.unwrap();
    let udp = UdpSocket::bind(endpoint(number)).await.unwrap();
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    spawn_local(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
            spawn_local(async move {
                stream.write_all(&[number]).await.unwrap();
                let (mut read, mut write) = stream.split();
                drop(tokio::io::copy(&mut read, &mut write).await);
            });
        }
    });
    spawn_local(async move {
        let mut buffer = [0; 2048];
        loop {
            let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
            udp.send_to(&[&[number], &buffer[..length]].concat(), from).await.unwrap();
        }
    });
    taken
}

struct Proxied {
    ways: watch::Sender<Arc<Ways>>,
    problems: mpsc::Receiver<Problem>,
}

impl Proxied {
    fn begin(udp: bool, numbers: &[u8]) -> Self {
        let (ways, looked) = watch::channel(Arc::new(Self::ways(udp, numbers)));
        let (tell, problems) = mpsc::channel(4);
        spawn_local(proxy::run(looked, tell));
        Self { ways, problems }
    }

    fn ways(udp: bool, numbers: &[u8]) -> Ways {
        let endpoints = numbers.iter().copied().map(endpoint).collect();
        [(Entrance { address: DOOR, udp }, endpoints)].into()
    }

    fn lead(&self, udp: bool, numbers: &[u8]) {
        self.ways.send_replace(Arc::new(Self::ways(udp, numbers)));
    }
}

/// Connects, and which instance that is.
async fn connect() -> (TcpStream, u8) {
    loop {
        if let Ok(mut stream) = TcpStream::connect(DOOR).await {
            let number = stream.read_u8().await.unwrap();
            return (stream, number);
        }
        tokio::task::yield_now().await;
    }
}

#[test]
fn connections_are_spread_and_those_that_run_are_not_touched() {
    let Some(place) = Place::new() else { return };
    place.run_async(|| async {
        let (one, two) = (instance(1).await, instance(2).await);
        let proxied = Proxied::begin(false, &[1, 2]);
        let mut open = vec![];
        for _ in 0..10 {
            open.push(connect().await);
        }
        assert_eq!((one.load(Ordering::Relaxed), two.load(Ordering::Relaxed)), (5, 5));
        // An endpoint that is not there is passed over.
        proxied.lead(false, &[9, 2]);
        tokio::task::yield_now().await;
        for _ in 0..4 {
            while connect().await.1 != 2 {}
        }
        for (stream, _) in &mut open {
            let large = vec![7; 300_000];
            let (mut read, mut write) = stream.split();
            let mut back = vec![0; large.len()];
            let (sent, got) = tokio::join!(write.write_all(&large), read.read_exact(&mut back));
            assert!(sent.is_ok() && got.is_ok() && back == large);
        }
        // What one side ends, ends for the other.
        let (mut stream, _) = open.pop().unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
        // Nobody is there; the port is given back.
        proxied.lead(false, &[]);
        loop {
            let mut stream = TcpStream::connect(DOOR).await.unwrap();
            if stream.read(&mut [0; 1]).await.map_or(true, |length| length == 0) {
                break;
            }
        }
        proxied.ways.send_replace(Arc::default());
        while TcpListener::bind(DOOR).await.is_err() {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn packets_of_one_client_stay_with_one_instance_while_it_is_there() {
    let Some(place) = Place::new() else { return };
    place.run_async(|| async {
        instance(1).await;
        instance(2).await;
        let proxied = Proxied::begin(true, &[1, 2]);
        let ask = async |socket: &UdpSocket| {
            let mut buffer = [0; 2048];
            loop {
                socket.send(b"ping").await.ok();
                let wait = std::time::Duration::from_millis(100);
                let got = tokio::time::timeout(wait, socket.recv(&mut buffer)).await;
                if let Ok(Ok(length)) = got {
                    assert_eq!(&buffer[1..length], b"ping");
                    return buffer[0];
                }
            }
        };
        let mut clients = vec![];
        for _ in 0..4 {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            socket.connect(DOOR).await.unwrap();
            let first = ask(&socket).await;
            for _ in 0..5 {
                assert_eq!(ask(&socket).await, first);
            }
            clients.push((socket, first));
        }
        let of_one = clients.iter().filter(|(_, number)| *number == 1).count();
        assert_eq!(of_one, 2);
        proxied.lead(true, &[2]);
        for (socket, _) in &clients {
            while ask(socket).await != 2 {}
        }
    });
}

#[test]
fn a_port_that_is_taken_is_told() {
    let Some(place) = Place::new() else { return };
    place.run_async(|| async {
        let taken = TcpListener::bind(DOOR).await.unwrap();
        let mut proxied = Proxied::begin(false, &[1]);
        let (entrance, error) = proxied.problems.recv().await.unwrap();
        assert_eq!((entrance.address, error.kind()), (DOOR, std::io::ErrorKind::AddrInUse));
        drop(taken);
    });
}
