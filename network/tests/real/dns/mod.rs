//! The name server with real sockets. On the loopback device of a namespace each address of 127.0.0.0/8 is
//! a container, and name servers behind it do as the test says.

mod client;
mod picture;
mod upstream;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use limpet_network::dns::{DnsError, Server, Settings};
use limpet_network::names::Names;
use simple_dns::RCODE;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::place::Place;
use client::{Asked, ask, ask_over_tcp, query};
use picture::{CHOOSY, INNER, WEB, picture};
use upstream::{Behaviour, Upstream};

/// A server under test.
struct Served {
    address: SocketAddr,
    names: watch::Sender<Arc<Names>>,
    folder: tempfile::TempDir,
    task: JoinHandle<()>,
}

impl Served {
    async fn new(workers: u8, upstreams: &[&Upstream]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let resolv_conf = folder.path().join("resolv.conf");
        write(&resolv_conf, upstreams);
        let listen = vec![(Ipv4Addr::new(127, 77, 0, 1), 53).into()];
        let server = Server::bind(Settings { listen, resolv_conf }).await.unwrap();
        let address = server.addresses().unwrap()[0];
        let (names, receiver) = watch::channel(Arc::new(Names::of(&picture(workers))));
        let task = tokio::task::spawn_local(server.run(receiver));
        Self { address, names, folder, task }
    }

    fn resolv_conf(&self) -> PathBuf {
        self.folder.path().join("resolv.conf")
    }

    async fn end(self) {
        drop(self.names);
        self.task.await.unwrap();
    }
}

fn write(path: &std::path::Path, upstreams: &[&Upstream]) {
    let lines = upstreams.iter().map(|upstream| format!("nameserver {}\n", upstream.address.ip()));
    std::fs::write(path, lines.collect::<String>()).unwrap();
}

#[test]
fn containers_are_answered_over_udp_and_tcp() {
    let Some(place) = Place::new() else { return };
    place.run_async(|| async {
        let served = Served::new(3, &[]).await;
        let to = served.address;
        for asked in [ask(to, WEB, "web").await, ask_over_tcp(to, WEB, "Web.Shop.").await] {
            assert_eq!(asked, Asked::addresses(&[[10, 128, 0, 1]]));
        }
        let mut firsts = std::collections::BTreeSet::new();
        for _ in 0..6 {
            let asked = ask(to, WEB, "worker").await;
            assert_eq!(asked.addresses.len(), 3);
            firsts.insert(asked.addresses[0]);
        }
        assert_eq!(firsts.len(), 3, "each comes first in its turn");
        assert_eq!(ask(to, WEB, "nobody").await.code, RCODE::NameError);
        assert_eq!(ask(to, INNER, "example.org").await.code, RCODE::NameError);
        assert_eq!(ask(to, [127, 0, 0, 1], "web").await.code, RCODE::Refused);
        // A change counts from the next question on.
        served.names.send(Arc::new(Names::of(&picture(1)))).unwrap();
        assert_eq!(ask(to, WEB, "worker").await, Asked::addresses(&[[127, 77, 1, 0]]));
        served.end().await;
    });
}

#[test]
fn what_is_not_of_limpet_is_asked_of_others() {
    let Some(place) = Place::new() else { return };
    place.run_async(|| async {
        let upstream = Upstream::new(1, Behaviour::Answer).await;
        let served = Served::new(1, &[&upstream]).await;
        let to = served.address;
        for asked in [ask(to, WEB, "Example.org").await, ask_over_tcp(to, WEB, "a.test").await] {
            assert_eq!(asked, Asked::addresses(&[upstream.marker()]));
        }
        assert_eq!(upstream.asked(), 2);
        // Names of Limpet and who may not look outside are not told to others.
        ask(to, WEB, "nobody").await;
        ask(to, WEB, "nobody.limpet").await;
        ask(to, INNER, "example.org").await;
        assert_eq!(upstream.asked(), 2);
        // The file changes while the server runs.
        let other = Upstream::new(2, Behaviour::Answer).await;
        write(&served.resolv_conf(), &[&other, &upstream]);
        while ask(to, WEB, "example.org").await != Asked::addresses(&[other.marker()]) {
            tokio::task::yield_now().await;
        }
        served.end().await;
    });
}

#[test]
fn who_has_a_name_server_of_its_own_has_that_asked() {
    let Some(place) = Place::new() else { return };
    place.run_async(|| async {
        let nodes = Upstream::new(1, Behaviour::Answer).await;
        let own = Upstream::new(9, Behaviour::Answer).await;
        let served = Served::new(1, &[&nodes]).await;
        let to = served.address;
        assert_eq!(ask(to, CHOOSY, "example.org").await, Asked::addresses(&[own.marker()]));
        assert_eq!(ask(to, CHOOSY, "web").await, Asked::addresses(&[[10, 128, 0, 1]]));
        assert_eq!(ask(to, WEB, "example.org").await, Asked::addresses(&[nodes.marker()]));
        assert_eq!((nodes.asked(), own.asked()), (1, 1));
        served.end().await;
    });
}

#[test]
fn a_server_that_fails_is_passed_over() {
    let Some(place) = Place::new() else { return };
    place.run_async(|| async {
        for behaviour in [Behaviour::Silent, Behaviour::Fail, Behaviour::Forge] {
            let bad = Upstream::new(1, behaviour).await;
            let good = Upstream::new(2, Behaviour::Answer).await;
            let served = Served::new(1, &[&bad, &good]).await;
            let to = served.address;
            let expected = Asked::addresses(&[good.marker()]);
            assert_eq!(ask(to, WEB, "example.org").await, expected, "{behaviour:?}");
            let before = bad.asked();
            assert_eq!(ask(to, WEB, "example.org").await, expected);
            assert_eq!(bad.asked(), before, "{behaviour:?}: the one that answered is first now");
            served.end().await;
            bad.end().await;
            good.end().await;
        }
        // Nobody knows: the last word that there is, or that there is none.
        let bad = Upstream::new(1, Behaviour::Fail).await;
        let served = Served::new(1, &[&bad]).await;
        assert_eq!(ask(served.address, WEB, "example.org").await.code, RCODE::ServerFailure);
        write(&served.resolv_conf(), &[]);
        bad.end().await;
        assert_eq!(ask(served.address, WEB, "example.org").await.code, RCODE::ServerFailure);
        served.end().await;
    });
}

#[test]
fn long_answers_come_whole_over_tcp() {
    let Some(place) = Place::new() else { return };
    place.run_async(|| async {
        let upstream = Upstream::new(1, Behaviour::Long).await;
        let served = Served::new(100, &[&upstream]).await;
        let to = served.address;
        for (name, count) in [("tasks.worker", 100), ("example.org", upstream::LONG)] {
            let cut = ask(to, WEB, name).await;
            assert!(cut.cut_off && cut.bytes <= 512, "{name}: {} bytes", cut.bytes);
            let whole = ask_over_tcp(to, WEB, name).await;
            assert!(!whole.cut_off, "{name}");
            assert_eq!(whole.addresses.len(), count, "{name}");
        }
        served.end().await;
    });
}

#[test]
fn one_container_that_floods_leaves_the_others_their_answers() {
    let Some(place) = Place::new() else { return };
    place.run_async(|| async {
        let upstream = Upstream::new(1, Behaviour::Silent).await;
        let served = Served::new(2, &[&upstream]).await;
        let to = served.address;
        let flood = UdpSocket::bind((Ipv4Addr::from(WEB), 0)).await.unwrap();
        for n in 0..200 {
            flood.send_to(&query(&format!("n{n}.example.org"), None), to).await.unwrap();
            tokio::task::yield_now().await;
        }
        // What is too many is refused at once, what is Limpet's still answered.
        assert_eq!(ask(to, WEB, "example.org").await.code, RCODE::ServerFailure);
        assert_eq!(ask(to, WEB, "web").await, Asked::addresses(&[[10, 128, 0, 1]]));
        assert!(upstream.asked() <= 32, "{} questions got out", upstream.asked());
        let before = upstream.asked();
        let other = UdpSocket::bind((Ipv4Addr::new(127, 77, 1, 1), 0)).await.unwrap();
        other.send_to(&query("example.org", None), to).await.unwrap();
        while upstream.asked() == before {
            tokio::task::yield_now().await;
        }
        served.end().await;
    });
}

#[test]
fn hostile_bytes_and_connections_do_no_harm() {
    let Some(place) = Place::new() else { return };
    place.run_async(|| async {
        let served = Served::new(1, &[]).await;
        let to = served.address;
        let socket = UdpSocket::bind((Ipv4Addr::from(WEB), 0)).await.unwrap();
        let good = query("web", Some(1232));
        for end in 0..good.len() {
            socket.send_to(&good[..end], to).await.unwrap();
            let mut answer = good.clone();
            answer[2] |= 0x80;
            socket.send_to(&answer, to).await.unwrap();
        }
        socket.send_to(&[0; 9000], to).await.unwrap();
        // More connections than one may have, all silent or in the middle of a question.
        let mut idle = vec![];
        for n in 0..20_u8 {
            let stream = client::connect(to, WEB).await;
            let mut stream = stream.unwrap();
            drop(stream.write_all(&[0, 40, n][..usize::from(n % 4)]).await);
            idle.push(stream);
        }
        assert_eq!(ask(to, WEB, "web").await, Asked::addresses(&[[10, 128, 0, 1]]));
        let other = [127, 77, 1, 0];
        let asked = ask_over_tcp(to, other, "web").await;
        assert_eq!(asked, Asked::addresses(&[[10, 128, 0, 1]]));
        // A length that is too long ends the connection.
        let mut stream = client::connect(to, other).await.unwrap();
        stream.write_all(&[0xff, 0xff]).await.unwrap();
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
        drop(idle);
        served.end().await;
    });
}

#[test]
fn an_address_that_is_taken_is_named() {
    let Some(place) = Place::new() else { return };
    place.run_async(|| async {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let settings = Settings { listen: vec![address], resolv_conf: "/nowhere".into() };
        let error = Server::bind(settings).await.unwrap_err();
        assert_eq!(error.to_string(), format!("listen for names on {address} (TCP)"));
        assert!(matches!(error, DnsError::Listen { .. }));
        // A node without IPv6 has no such gateway address; names are answered all the same.
        let bind = async |listen: &[&str]| {
            let listen = listen.iter().map(|address| address.parse().unwrap()).collect();
            Server::bind(Settings { listen, resolv_conf: "/nowhere".into() }).await
        };
        let server = bind(&["127.0.0.1:53", "[fd00::99]:53"]).await.unwrap();
        assert_eq!(server.addresses().unwrap(), ["127.0.0.1:53".parse().unwrap()]);
        assert!(bind(&["[fd00::99]:53"]).await.is_err());
        assert!(bind(&["127.0.0.1:54", "127.0.0.1:53"]).await.is_err());
    });
}

#[test]
fn several_questions_come_by_one_connection() {
    let Some(place) = Place::new() else { return };
    place.run_async(|| async {
        let upstream = Upstream::new(1, Behaviour::Answer).await;
        let served = Served::new(1, &[&upstream]).await;
        let mut stream: TcpStream = client::connect(served.address, WEB).await.unwrap();
        let names = ["web", "example.org", "worker", "nobody"];
        let framed: Vec<u8> = names
            .iter()
            .flat_map(|name| {
                let query = query(name, None);
                [&u16::try_from(query.len()).unwrap().to_be_bytes(), &query[..]].concat()
            })
            .collect();
        // In pieces that end anywhere.
        for piece in framed.chunks(7) {
            stream.write_all(piece).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut got = vec![];
        for _ in names {
            got.push(client::read(&mut stream).await.addresses);
        }
        let first = |at: usize| got[at].first().copied();
        assert_eq!(first(0), Some([10, 128, 0, 1].into()));
        assert_eq!(first(1), Some(upstream.marker().into()));
        assert_eq!((first(2), first(3)), (Some([127, 77, 1, 0].into()), None));
        served.end().await;
    });
}
