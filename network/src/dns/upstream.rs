//! Asking the name servers that the node itself asks.
//!
//! In: the node's `resolv.conf` (resolv.conf(5)), read again when it has changed, and questions. Out: their
//! answers. Each question goes out with an id and from a port that nobody can guess, and only what
//! answers it comes back (RFC 5452).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::PORT;
use super::message::{Query, is_cut_off, is_useful};

/// How many servers of the file count, as in glibc.
const MAX_SERVERS: usize = 3;
/// Longest `resolv.conf` that is read.
const MAX_FILE_BYTES: usize = 64 * 1024;
/// How often the file is looked at, at the most.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// When a server has not answered for so long the next one is asked too. The first may still answer:
/// over a satellite that takes more than a second.
const NEXT_AFTER: Duration = Duration::from_secs(1);
/// When nobody has answered for so long nobody will: resolvers in containers wait for 5 s.
const GIVE_UP_AFTER: Duration = Duration::from_millis(4500);
/// Longest answer over UDP that is taken; a longer one is fetched over TCP.
const UDP_BYTES: usize = 4096;

/// The servers, as the file has them.
#[derive(Debug)]
pub(super) struct Upstreams {
    path: PathBuf,
    /// Where this server listens: it never asks itself.
    own: Vec<SocketAddr>,
    read: Mutex<Option<FileRead>>,
}

#[derive(Debug)]
struct FileRead {
    looked: Instant,
    version: Option<(SystemTime, u64)>,
    servers: Arc<Servers>,
}

/// Some servers, and which of them answered last: it is asked first.
#[derive(Debug, Default)]
pub(super) struct Servers {
    addresses: Vec<SocketAddr>,
    first: AtomicUsize,
}

impl Upstreams {
    pub(super) const fn new(path: PathBuf, own: Vec<SocketAddr>) -> Self {
        Self { path, own, read: Mutex::new(None) }
    }

    /// The servers as they are now.
    pub(super) fn servers(&self) -> Arc<Servers> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some(read) = read.as_ref().filter(|read| now - read.looked < LOOK_EVERY) {
            return Arc::clone(&read.servers);
        }
        let metadata = std::fs::metadata(&self.path);
        let version = metadata.ok().and_then(|m| Some((m.modified().ok()?, m.len())));
        let servers = match read.as_ref().filter(|read| read.version == version) {
            Some(read) => Arc::clone(&read.servers),
            None => {
                let text = std::fs::read(&self.path).unwrap_or_default();
                let text = String::from_utf8_lossy(&text[..text.len().min(MAX_FILE_BYTES)]);
                let addresses = parse(&text, &self.own);
                Arc::new(Servers { addresses, first: AtomicUsize::new(0) })
            }
        };
        *read = Some(FileRead { looked: now, version, servers: Arc::clone(&servers) });
        servers
    }
}

/// The `nameserver` lines of a `resolv.conf`. With none the node's own server is meant (resolv.conf(5)).
fn parse(text: &str, own: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut found: Vec<SocketAddr> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next()? == "nameserver").then(|| words.next())?
        })
        .filter_map(server)
        .collect();
    if found.is_empty() {
        found.push((Ipv4Addr::LOCALHOST, PORT).into());
    }
    found.retain(|address| !own.contains(address));
    found.truncate(MAX_SERVERS);
    found
}

fn server(text: &str) -> Option<SocketAddr> {
    let Some((address, device)) = text.split_once('%') else {
        return Some((text.parse::<IpAddr>().ok()?, PORT).into());
    };
    // A link-local address means something on one device only.
    let socket =
        rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::DGRAM, None);
    let index = device
        .parse()
        .ok()
        .or_else(|| rustix::net::netdevice::name_to_index(socket.ok()?, device).ok())?;
    Some(SocketAddrV6::new(address.parse::<Ipv6Addr>().ok()?, PORT, 0, index).into())
}

impl Servers {
    /// These servers; of more than resolvers take the first.
    pub(super) fn of(addresses: &[IpAddr]) -> Self {
        let addresses = addresses.iter().take(MAX_SERVERS).map(|it| (*it, PORT).into());
        Self { addresses: addresses.collect(), first: AtomicUsize::new(0) }
    }

    /// Asks until somebody knows. None if nobody answers at all.
    pub(super) async fn ask(self: &Arc<Self>, query: &Arc<Query>, bytes: &[u8]) -> Option<Vec<u8>> {
        let bytes: Arc<[u8]> = bytes.into();
        let give_up = Instant::now() + GIVE_UP_AFTER;
        let mut left = self.order().into_iter().peekable();
        let mut tries = JoinSet::new();
        let mut useless = None;
        loop {
            if let Some((at, address)) = left.next() {
                let (query, bytes) = (Arc::clone(query), Arc::clone(&bytes));
                tries.spawn(async move { (at, ask_one(address, &query, &bytes).await) });
            }
            let next = Instant::now() + NEXT_AFTER;
            let until = if left.peek().is_some() { next.min(give_up) } else { give_up };
            loop {
                tokio::select! {
                    answered = tries.join_next() => match answered {
                        Some(Ok((at, Ok(answer)))) if is_useful(&answer) => {
                            self.first.store(at, Ordering::Relaxed);
                            return Some(answer);
                        }
                        Some(Ok((_, Ok(answer)))) => useless = Some(answer),
                        Some(_) => {}
                        None => break,
                    },
                    () = sleep_until(until) => break,
                }
            }
            if left.peek().is_none() {
                return useless;
            }
        }
    }

    fn order(&self) -> Vec<(usize, SocketAddr)> {
        let mut order: Vec<_> = self.addresses.iter().copied().enumerate().collect();
        let first = self.first.load(Ordering::Relaxed);
        if first < order.len() {
            order.rotate_left(first);
        }
        order
    }
}

/// Asks one server, over TCP if its answer over UDP is cut off.
async fn ask_one(server: SocketAddr, query: &Query, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let id = random_id()?;
    let question = query.forwarded(bytes, id);
    let answer = over_udp(server, query, id, &question).await?;
    if !is_cut_off(&answer) {
        return Ok(query.restored(answer));
    }
    // Some small routers have no TCP: then what came is all there is.
    let whole = timeout(GIVE_UP_AFTER, over_tcp(server, query, id, &question)).await;
    Ok(query.restored(whole.ok().and_then(Result::ok).unwrap_or(answer)))
}

fn random_id() -> io::Result<u16> {
    let mut id = [0; 2];
    let filled = SystemRandom::new().fill(&mut id);
    filled.map_err(|_| io::Error::other("the system gives no random bytes"))?;
    Ok(u16::from_be_bytes(id))
}

async fn over_udp(
    server: SocketAddr,
    query: &Query,
    id: u16,
    question: &[u8],
) -> io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A socket for each question: the kernel chooses a port at random, and hands over what comes from
    // this server alone.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; UDP_BYTES];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if query.is_answered_by(&buffer[..length], id) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn over_tcp(
    server: SocketAddr,
    query: &Query,
    id: u16,
    question: &[u8],
) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    if query.is_answered_by(&answer, id) {
        Ok(answer)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "it answers another question"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_as_the_resolver_reads_it() {
        let own = ["10.129.0.1:53".parse().unwrap()];
        let addresses = |text: &str| {
            parse(text, &own).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        for (text, expected) in [
            ("", "127.0.0.1:53"),
            ("# nameserver 1.1.1.1\nsearch lan\n", "127.0.0.1:53"),
            ("nameserver 127.0.0.53\noptions edns0\n", "127.0.0.53:53"),
            (
                "nameserver\t192.0.2.1 # x\n  nameserver 2001:db8::1",
                "192.0.2.1:53 [2001:db8::1]:53",
            ),
            ("nameserver fe80::1%1\nnameserver fe80::2%lo", "[fe80::1%1]:53 [fe80::2%1]:53"),
            ("nameserver nonsense\nnameserver\nnameserver 192.0.2.1", "192.0.2.1:53"),
            ("nameserver 10.129.0.1", ""),
            ("nameserver 192.0.2.1\n".repeat(5).as_str(), "192.0.2.1:53 192.0.2.1:53 192.0.2.1:53"),
        ] {
            assert_eq!(addresses(text), expected, "{text}");
        }
    }
}
