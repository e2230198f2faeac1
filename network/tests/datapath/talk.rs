//! Sockets in namespaces: servers that say who they are and who asked, and clients that ask.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread;

use limpet_network::namespace::Namespace;

/// How long what is answered may take on a machine with much to do. Nothing waits that long for
/// something that does not happen, but a packet that is dropped.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How soon a datagram is sent again: kernels do not answer every one with an error (RFC 1812, 4.3.2.8).
const AGAIN: Duration = Duration::from_millis(1_500);
const TRIES: u32 = 6;
/// How long an answer is waited for that is not to come.
const IMPATIENCE: Duration = Duration::from_millis(600);

/// Serves TCP in a namespace: each connection is told the server's name and the client's address, and
/// then hears back what it says.
pub(crate) fn serve(namespace: &Namespace, name: &str, address: impl Into<SocketAddr>) {
    let address = address.into();
    let listener = namespace.run(|| TcpListener::bind(address)).unwrap().unwrap();
    let name = name.to_owned();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let name = name.clone();
            thread::spawn(move || answer(stream, &name));
        }
    });
}

fn answer(mut stream: TcpStream, name: &str) -> io::Result<()> {
    let client = stream.peer_addr()?.ip();
    writeln!(stream, "{name} {client}")?;
    let mut echo = stream.try_clone()?;
    io::copy(&mut stream, &mut echo).map(drop)
}

/// Serves UDP: each datagram is answered with the server's name and the client's address.
pub(crate) fn serve_udp(namespace: &Namespace, name: &str, address: impl Into<SocketAddr>) {
    let address = address.into();
    let socket = namespace.run(|| UdpSocket::bind(address)).unwrap().unwrap();
    let name = name.to_owned();
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, client)) = socket.recv_from(&mut buffer) {
            let text = format!("{name} {}\n", client.ip());
            socket.send_to(text.as_bytes(), client).ok();
        }
    });
}

/// Connects from the namespace that the thread is in.
pub(crate) fn connect(to: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, patience)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Reads a line: who answered, and whom that saw.
pub(crate) fn hear(stream: &mut TcpStream) -> io::Result<(String, IpAddr)> {
    let mut line = vec![];
    let mut byte = [0];
    while byte != [b'\n'] {
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    Ok(said(&line))
}

fn said(line: &[u8]) -> (String, IpAddr) {
    let line = String::from_utf8(line.to_vec()).unwrap();
    let (name, client) = line.trim().split_once(' ').unwrap();
    (name.to_owned(), client.parse().unwrap())
}

/// Asks a server by TCP from a namespace.
pub(crate) fn ask(from: &Namespace, to: impl Into<SocketAddr>) -> io::Result<(String, IpAddr)> {
    let to = to.into();
    from.run(|| hear(&mut connect(to, PATIENCE)?)).unwrap()
}

/// Asks a server that is not to answer, not even with a refusal.
pub(crate) fn ask_in_vain(from: &Namespace, to: impl Into<SocketAddr>) {
    let to = to.into();
    let done = from.run(|| connect(to, IMPATIENCE)).unwrap();
    assert_eq!(done.unwrap_err().kind(), io::ErrorKind::TimedOut);
}

/// Asks a server by UDP from a namespace.
pub(crate) fn ask_udp(from: &Namespace, to: impl Into<SocketAddr>) -> io::Result<(String, IpAddr)> {
    ask_again(&udp_client(from, to.into()))
}

/// A socket in a namespace that asks one server, always from the same port.
pub(crate) fn udp_client(from: &Namespace, to: SocketAddr) -> UdpSocket {
    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
    let socket = from.run(|| UdpSocket::bind((any, 0))).unwrap().unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(AGAIN)).unwrap();
    socket
}

/// Asks the server, more than once if it says nothing.
pub(crate) fn ask_again(socket: &UdpSocket) -> io::Result<(String, IpAddr)> {
    let mut buffer = [0; 64];
    for _ in 1..TRIES {
        socket.send(b"who")?;
        match socket.recv(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            heard => return Ok(said(&buffer[..heard?])),
        }
    }
    socket.send(b"who")?;
    let length = socket.recv(&mut buffer)?;
    Ok(said(&buffer[..length]))
}

/// That was refused at once, as if nothing listened.
pub(crate) fn assert_closed<T: core::fmt::Debug>(done: io::Result<T>) {
    assert_eq!(done.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}

/// That was refused at once, because it is not allowed: `EHOSTUNREACH` of IPv4, `EACCES` of IPv6.
pub(crate) fn assert_prohibited<T: core::fmt::Debug>(done: io::Result<T>) {
    let kind = done.unwrap_err().kind();
    let prohibited = [io::ErrorKind::HostUnreachable, io::ErrorKind::PermissionDenied];
    assert!(prohibited.contains(&kind), "{kind:?}");
}

/// Asks from the namespace that the thread is in, with one of its addresses; not for long.
pub(crate) fn ask_from(source: IpAddr, to: SocketAddr) -> io::Result<(String, IpAddr)> {
    let socket =
        socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect_timeout(&to.into(), IMPATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    hear(&mut socket.into())
}
