//! Sending messages and reading what the kernel says to them.

use std::io;
use std::time::Duration;

use netlink_sys::Socket as Inner;
use rustix::io::Errno;
use rustix::net::{RecvFlags, sockopt};

use super::message::Batch;
use super::reading::{Message, attributes, messages, native_u32};

/// The largest batch. The rules of a node with 500 instances and 1,000 endpoints are a tenth of it.
const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;
/// What the kernel's book-keeping of a sent batch takes of the buffer beside the bytes.
const SEND_OVERHEAD_BYTES: usize = 64 * 1024;
/// Room for what is received at once: the kernel fills at most 32 KiB when it lists something.
const RECEIVE_BYTES: usize = 64 * 1024;
/// How long the kernel may think about the next part of a list. It answers out of the call that asks.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a list is asked for again that changed while it was read.
const MAX_LISTS: usize = 8;
/// Types of messages that every protocol has (linux/netlink.h).
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// The list is not consistent.
const INTERRUPTED: u16 = 0x10;
/// Attributes follow an error; the message that is answered is left out before them.
const HAS_ATTRIBUTES: u16 = 0x200;
const CAPPED: u16 = 0x100;
/// The attribute of an error that is a sentence.
const SENTENCE: u16 = 1;

/// Fail rather than wait for an answer.
const DO_NOT_WAIT: i32 = RecvFlags::DONTWAIT.bits().cast_signed();

/// The kernel did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("{attempt}{}", sentence.as_ref().map(|s| format!(" ({s})")).unwrap_or_default())]
pub(crate) struct Refused {
    /// What was attempted.
    pub(crate) attempt: String,
    /// What the kernel said beside the number.
    pub(crate) sentence: Option<String>,
    /// The number.
    pub(crate) source: io::Error,
    /// Which message of the batch it was.
    pub(crate) message: usize,
}

impl Refused {
    fn new(attempt: &str, source: io::Error) -> Self {
        Self { attempt: attempt.to_owned(), sentence: None, source, message: 0 }
    }

    /// The number, if it came from the kernel.
    pub(crate) fn code(&self) -> Option<Errno> {
        Errno::from_io_error(&self.source)
    }
}

/// A socket in the namespace of the thread that opened it, wherever it is used later.
#[derive(Debug)]
pub(crate) struct Socket {
    inner: Inner,
}

impl Socket {
    /// Opens a socket for a protocol (`NETLINK_ROUTE`, `NETLINK_NETFILTER`).
    pub(crate) fn open(protocol: isize) -> io::Result<Self> {
        let mut inner = Inner::new(protocol)?;
        inner.bind_auto()?;
        // Kernels before 4.12 have no sentences, those before 4.3 repeat what was asked: both are fine.
        inner.set_ext_ack(true).or_else(ignore_unknown)?;
        inner.set_cap_ack(true).or_else(ignore_unknown)?;
        sockopt::set_socket_timeout(&inner, sockopt::Timeout::Recv, Some(PATIENCE))?;
        Ok(Self { inner })
    }

    /// Sends a batch and reads all answers. The kernel works while it is sent: when that is over, what
    /// was asked for is done or refused.
    pub(crate) fn perform(&self, batch: &Batch) -> Result<(), Refused> {
        match self.attempt_all(batch)?.into_iter().next() {
            Some(refused) => Err(refused),
            None => Ok(()),
        }
    }

    /// The same, with all that was refused: the messages behind one that was refused are still tried.
    pub(crate) fn attempt_all(&self, batch: &Batch) -> Result<Vec<Refused>, Refused> {
        self.send(batch)?;
        let mut refused = vec![];
        let mut heard = false;
        let mut buffer = Vec::with_capacity(RECEIVE_BYTES);
        loop {
            match self.receive(&mut buffer, DO_NOT_WAIT) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // More was refused than there is room for: the first are there.
                Err(error) if is(&error, Errno::NOBUFS) => continue,
                Err(error) => return Err(Refused::new("hear what the kernel says", error)),
            }
            for message in messages(&buffer).filter(|message| message.kind == ERROR) {
                heard = true;
                refused.extend(refusal(batch, &message));
            }
        }
        if heard {
            return Ok(refused);
        }
        let error = io::Error::from(io::ErrorKind::UnexpectedEof);
        Err(Refused::new("hear what the kernel says of a request", error))
    }

    /// Asks for a list of what changes seldom: once more if it changed while it was read.
    pub(crate) fn list(&self, request: &Batch) -> Result<Vec<Vec<u8>>, Refused> {
        for _ in 0..MAX_LISTS {
            let mut found = vec![];
            if self.walk(request, |body| found.push(body.to_vec()))? {
                return Ok(found);
            }
        }
        let attempt = request.attempt(0).unwrap_or_default();
        Err(Refused::new(attempt, io::ErrorKind::ResourceBusy.into()))
    }

    /// Asks for a list of any length and looks at each entry's body once; false if it changed
    /// meanwhile.
    pub(crate) fn walk(
        &self,
        request: &Batch,
        mut each: impl FnMut(&[u8]),
    ) -> Result<bool, Refused> {
        let attempt = request.attempt(0).unwrap_or_default();
        self.send(request)?;
        let mut consistent = true;
        let mut buffer = Vec::with_capacity(RECEIVE_BYTES);
        loop {
            self.receive(&mut buffer, 0).map_err(|error| Refused::new(attempt, error))?;
            for message in messages(&buffer) {
                consistent &= message.flags & INTERRUPTED == 0;
                match message.kind {
                    DONE => return Ok(consistent),
                    ERROR => return refusal(request, &message).map_or(Ok(consistent), Err),
                    _ => each(message.body),
                }
            }
        }
    }

    /// Asks for one thing.
    pub(crate) fn get(&self, request: &Batch) -> Result<Vec<u8>, Refused> {
        let attempt = request.attempt(0).unwrap_or_default();
        self.send(request)?;
        let mut buffer = Vec::with_capacity(RECEIVE_BYTES);
        self.receive(&mut buffer, 0).map_err(|error| Refused::new(attempt, error))?;
        let nothing = || Refused::new(attempt, io::ErrorKind::UnexpectedEof.into());
        let message = messages(&buffer).next().ok_or_else(nothing)?;
        match message.kind {
            ERROR => Err(refusal(request, &message).unwrap_or_else(nothing)),
            _ => Ok(message.body.to_vec()),
        }
    }

    /// The number of a device in the socket's namespace.
    pub(crate) fn device_index(&self, name: &str) -> Result<u32, Refused> {
        rustix::net::netdevice::name_to_index(&self.inner, name)
            .map_err(|error| Refused::new(&format!("find device {name}"), error.into()))
    }

    fn send(&self, batch: &Batch) -> Result<(), Refused> {
        let attempt = batch.attempt(0).unwrap_or_default();
        let too_large = || io::Error::from(io::ErrorKind::FileTooLarge);
        if let Some(message) = batch.overlong() {
            return Err(Refused::new(batch.attempt(message).unwrap_or_default(), too_large()));
        }
        let bytes = batch.bytes();
        if bytes.len() > MAX_BATCH_BYTES {
            return Err(Refused::new(attempt, too_large()));
        }
        self.forget_answers();
        self.make_room(bytes.len()).map_err(|error| Refused::new(attempt, error))?;
        match self.inner.send(bytes, 0) {
            Ok(sent) if sent == bytes.len() => Ok(()),
            Ok(_) => Err(Refused::new(attempt, io::ErrorKind::WriteZero.into())),
            Err(error) => Err(Refused::new(attempt, error)),
        }
    }

    /// Answers to a request that was given up are not those to the next.
    fn forget_answers(&self) {
        let mut buffer = Vec::with_capacity(RECEIVE_BYTES);
        while self.receive(&mut buffer, DO_NOT_WAIT).is_ok() {}
    }

    /// A batch is one datagram: the buffer must hold it whole. The kernel doubles what it is told.
    fn make_room(&self, bytes: usize) -> io::Result<()> {
        let wanted = bytes + SEND_OVERHEAD_BYTES;
        if sockopt::socket_send_buffer_size(&self.inner)? < wanted {
            sockopt::set_socket_send_buffer_size_force(&self.inner, wanted)?;
        }
        Ok(())
    }

    /// Receives once. A signal does not end that: with a limit of time the kernel does not try again by
    /// itself (signal(7)).
    fn receive(&self, buffer: &mut Vec<u8>, flags: i32) -> io::Result<()> {
        loop {
            buffer.clear();
            match self.inner.recv(buffer, flags) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done.map(drop),
            }
        }
    }
}

/// What an answer says: nothing if all is well.
fn refusal(batch: &Batch, answer: &Message<'_>) -> Option<Refused> {
    let code = native_u32(answer.body, 0)?.cast_signed();
    if code == 0 {
        return None;
    }
    let number = usize::try_from(answer.sequence).unwrap_or(usize::MAX);
    let attempt = batch.attempt(number).unwrap_or("do what was asked").to_owned();
    let source = io::Error::from_raw_os_error(code.saturating_neg());
    Some(Refused { attempt, sentence: sentence(answer), source, message: number })
}

/// The sentence behind the error number and the message that is answered, whole or its header only.
fn sentence(answer: &Message<'_>) -> Option<String> {
    const HEADERS: usize = 4 + 16;
    if answer.flags & HAS_ATTRIBUTES == 0 {
        return None;
    }
    let answered = usize::try_from(native_u32(answer.body, 4)?).ok()?;
    let skip =
        if answer.flags & CAPPED == 0 { (4 + answered).next_multiple_of(4) } else { HEADERS };
    let found = attributes(answer.body.get(skip..)?).find(|a| a.kind == SENTENCE)?;
    found.text().map(str::to_owned)
}

fn is(error: &io::Error, code: Errno) -> bool {
    Errno::from_io_error(error) == Some(code)
}

fn ignore_unknown(error: io::Error) -> io::Result<()> {
    if is(&error, Errno::NOPROTOOPT) { Ok(()) } else { Err(error) }
}
