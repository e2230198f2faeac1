//! A container that asks, with another DNS library.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use simple_dns::rdata::{OPT, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) code: RCODE,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) cut_off: bool,
    /// How long it was; 0 in what is expected, which compares equal to any.
    pub(super) bytes: usize,
}

impl Asked {
    /// An answer with these addresses.
    pub(super) fn addresses(addresses: &[[u8; 4]]) -> Self {
        let addresses = addresses.iter().copied().map(IpAddr::from).collect();
        Self { code: RCODE::NoError, addresses, cut_off: false, bytes: 0 }
    }

    fn parse(bytes: &[u8]) -> Self {
        let packet = Packet::parse(bytes).expect("an answer");
        assert_eq!(packet.id(), ID);
        let addresses = packet.answers.iter().map(|answer| match &answer.rdata {
            RData::A(a) => Ipv4Addr::from(a.address).into(),
            other => panic!("{other:?}"),
        });
        Self {
            code: packet.rcode(),
            addresses: addresses.collect(),
            cut_off: packet.has_flags(PacketFlag::TRUNCATION),
            bytes: bytes.len(),
        }
    }

    fn of_any_length(mut self) -> Self {
        if !self.cut_off {
            self.bytes = 0;
        }
        self
    }
}

const ID: u16 = 0x7a7a;

/// A question for the IPv4 addresses of a name.
pub(super) fn query(name: &str, udp_packet_size: Option<u16>) -> Vec<u8> {
    let mut packet = Packet::new_query(ID);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name).unwrap();
    let class = QCLASS::CLASS(CLASS::IN);
    packet.questions.push(Question::new(name, QTYPE::TYPE(TYPE::A), class, false));
    if let Some(udp_packet_size) = udp_packet_size {
        *packet.opt_mut() = Some(OPT { opt_codes: vec![], udp_packet_size, version: 0 });
    }
    packet.build_bytes_vec().unwrap()
}

/// Asks over UDP, from an address.
pub(super) async fn ask(to: SocketAddr, from: [u8; 4], name: &str) -> Asked {
    let socket = UdpSocket::bind((Ipv4Addr::from(from), 0)).await.unwrap();
    socket.connect(to).await.unwrap();
    socket.send(&query(name, None)).await.unwrap();
    let mut answer = vec![0; 65_535];
    let length = socket.recv(&mut answer).await.unwrap();
    Asked::parse(&answer[..length]).of_any_length()
}

/// Connects from an address.
pub(super) async fn connect(to: SocketAddr, from: [u8; 4]) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::from(from), 0).into())?;
    socket.connect(to).await
}

/// Reads one answer.
pub(super) async fn read(stream: &mut TcpStream) -> Asked {
    let length = stream.read_u16().await.unwrap();
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await.unwrap();
    Asked::parse(&answer).of_any_length()
}

/// Asks over TCP, from an address.
pub(super) async fn ask_over_tcp(to: SocketAddr, from: [u8; 4], name: &str) -> Asked {
    let mut stream = connect(to, from).await.unwrap();
    let query = query(name, None);
    let length = u16::try_from(query.len()).unwrap();
    stream.write_all(&[&length.to_be_bytes(), query.as_slice()].concat()).await.unwrap();
    read(&mut stream).await
}
