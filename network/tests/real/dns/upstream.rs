//! A name server of the world that does as the test says.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Packet, PacketFlag, RCODE, ResourceRecord};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;

/// What it does with a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// Answers with its marker.
    Answer,
    /// Says nothing.
    Silent,
    /// Says that it failed.
    Fail,
    /// Answers other questions, and with other ids.
    Forge,
    /// Answers with as many addresses as only TCP takes.
    Long,
}

/// How many addresses a long answer has.
pub(super) const LONG: usize = 200;

/// The server, at an address of its own.
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    number: u8,
    asked: Arc<AtomicUsize>,
    tasks: [JoinHandle<()>; 2],
}

impl Upstream {
    pub(super) async fn new(number: u8, behaviour: Behaviour) -> Self {
        let address = (Ipv4Addr::new(127, 88, 0, number), 53).into();
        let udp = UdpSocket::bind(address).await.unwrap();
        let tcp = TcpListener::bind(address).await.unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let over_udp = async move {
            let mut buffer = [0; 4096];
            loop {
                let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
                for answer in answers(&buffer[..length], number, behaviour, true) {
                    udp.send_to(&answer, from).await.unwrap();
                }
            }
        };
        let over_tcp = async move {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let Ok(length) = stream.read_u16().await else { continue };
                let mut question = vec![0; length.into()];
                stream.read_exact(&mut question).await.unwrap();
                for answer in answers(&question, number, behaviour, false) {
                    let length = u16::try_from(answer.len()).unwrap();
                    stream.write_all(&[&length.to_be_bytes(), &answer[..]].concat()).await.unwrap();
                }
            }
        };
        let tasks = [tokio::task::spawn_local(over_udp), tokio::task::spawn_local(over_tcp)];
        Self { address, number, asked, tasks }
    }

    /// The address that its answers have.
    pub(super) fn marker(&self) -> [u8; 4] {
        [192, 0, 2, self.number]
    }

    /// How many questions came in packets.
    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Frees its address.
    pub(super) async fn end(self) {
        for task in self.tasks {
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
        }
    }
}

fn answers(question: &[u8], number: u8, behaviour: Behaviour, udp: bool) -> Vec<Vec<u8>> {
    let answer = |count: usize, change: fn(&mut Packet<'_>)| {
        let mut packet = Packet::parse(question).unwrap().into_reply();
        let name = packet.questions[0].qname.clone();
        for _ in 0..count {
            let marker = A { address: Ipv4Addr::new(192, 0, 2, number).into() };
            let record = ResourceRecord::new(name.clone(), CLASS::IN, 300, RData::A(marker));
            packet.answers.push(record);
        }
        change(&mut packet);
        packet.build_bytes_vec_compressed().unwrap()
    };
    match behaviour {
        Behaviour::Answer => vec![answer(1, |_| {})],
        Behaviour::Silent => vec![],
        Behaviour::Fail => vec![answer(0, |packet| *packet.rcode_mut() = RCODE::ServerFailure)],
        Behaviour::Forge => vec![
            answer(1, |packet| packet.set_id(packet.id() ^ 1)),
            answer(1, |packet| packet.questions[0].qtype = simple_dns::TYPE::MX.into()),
            question.to_vec(),
        ],
        Behaviour::Long if udp => vec![answer(0, |p| p.set_flags(PacketFlag::TRUNCATION))],
        Behaviour::Long => vec![answer(LONG, |_| {})],
    }
}
