//! How a DNS message looks (RFC 1035, section 4; EDNS: RFC 6891). Values in, values out.
//!
//! Of a query only what decides is read: the header, the one question, and whether there is an OPT
//! record. An answer repeats the question as it came, so that its case is kept. No library: all that would
//! be used of one is this file, and it would build a tree of owned names for every packet.

use std::net::IpAddr;

use crate::names::RecordKind;

/// Longest query that is read. A question with a cookie, a client subnet and padding stays far below.
pub(super) const MAX_QUERY_BYTES: usize = 4096;
/// Longest answer over UDP to who does not say that it can take more (RFC 1035, section 4.2.1).
pub(super) const PLAIN_UDP_BYTES: usize = 512;
/// Longest answer over UDP that is sent and asked for, so that no packet is cut into fragments (the
/// figure that makers of name servers agreed on for DNS Flag Day 2020).
pub(super) const EDNS_UDP_BYTES: u16 = 1232;
/// How long an answer may be kept: not at all. An instance that dies must be gone within 100 ms, and
/// asking again costs a container some tens of microseconds. Negative answers carry no SOA record, which
/// says the same (RFC 2308, section 5).
const TTL_SECONDS: u32 = 0;

const HEADER_BYTES: usize = 12;
const MAX_LABEL_BYTES: usize = 63;
/// With the lengths of the labels.
const MAX_NAME_BYTES: usize = 255;
const FLAG_RESPONSE: u16 = 0x8000;
const FLAG_AUTHORITATIVE: u16 = 0x0400;
const FLAG_TRUNCATED: u16 = 0x0200;
const FLAG_RECURSION_DESIRED: u16 = 0x0100;
const FLAG_RECURSION_AVAILABLE: u16 = 0x0080;
const OPCODE: u16 = 0x7800;
const RCODE: u16 = 0x000f;
const CLASS_IN: u16 = 1;
const TYPE_A: u16 = 1;
const TYPE_PTR: u16 = 12;
const TYPE_AAAA: u16 = 28;
const TYPE_OPT: u16 = 41;
/// Transfers of whole zones, which nobody is the master of here.
const TYPES_TRANSFER: core::ops::RangeInclusive<u16> = 251..=252;
/// A pointer to the question's name, which begins behind the header.
const POINTER_TO_QUESTION: [u8; 2] = [0xc0, 0x0c];

/// Response codes (RFC 1035, section 4.1.1; RFC 6891, section 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    NoError,
    FormatError,
    ServerFailure,
    NoSuchName,
    NotImplemented,
    Refused,
    BadVersion,
}

impl Code {
    const fn number(self) -> u16 {
        match self {
            Self::NoError => 0,
            Self::FormatError => 1,
            Self::ServerFailure => 2,
            Self::NoSuchName => 3,
            Self::NotImplemented => 4,
            Self::Refused => 5,
            Self::BadVersion => 16,
        }
    }
}

/// A question that can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    header: Header,
    /// The name, with bytes that are no plain characters as `\DDD` (RFC 1035, section 5.1).
    pub(super) name: String,
    pub(super) kind: RecordKind,
    /// The question as it came.
    question: Vec<u8>,
    edns: Option<Edns>,
    /// Where the message ends; what is behind it is nobody's.
    pub(super) end: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    id: u16,
    flags: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Edns {
    udp_bytes: u16,
    version: u8,
    /// The flags of the OPT record: DO is repeated (RFC 3225, section 3).
    flags: u16,
}

/// A query that gets no proper answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unanswerable {
    /// Nothing is sent: an answer to an answer would go to and fro for ever, and what has not even a
    /// header has no id to answer with.
    Ignore,
    /// This is sent.
    Reply(Vec<u8>),
}

/// Goes through a message byte by byte, never past its end.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// The bytes are no message.
struct Malformed;

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, Malformed> {
        let byte = *self.bytes.get(self.at).ok_or(Malformed)?;
        self.at += 1;
        Ok(byte)
    }

    fn number(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    fn skip(&mut self, count: usize) -> Result<(), Malformed> {
        self.at = self.at.checked_add(count).ok_or(Malformed)?;
        if self.at > self.bytes.len() { Err(Malformed) } else { Ok(()) }
    }

    /// A name that is written out: in a question there is nothing that a pointer could point to.
    fn name(&mut self) -> Result<String, Malformed> {
        let (start, mut name) = (self.at, String::new());
        loop {
            let length = usize::from(self.byte()?);
            if length > MAX_LABEL_BYTES || self.at + length - start > MAX_NAME_BYTES {
                return Err(Malformed);
            }
            if length == 0 {
                return Ok(name);
            }
            if !name.is_empty() {
                name.push('.');
            }
            for _ in 0..length {
                match self.byte()? {
                    byte @ (b'.' | b'\\' | 0..=b' ' | 0x7f..) => {
                        name.push_str(&format!("\\{byte:03}"));
                    }
                    byte => name.push(char::from(byte)),
                }
            }
        }
    }

    /// Passes over a name, which may end with a pointer.
    fn skip_name(&mut self) -> Result<(), Malformed> {
        loop {
            match self.byte()? {
                0 => return Ok(()),
                length @ 1..=63 => self.skip(length.into())?,
                0xc0.. => return self.skip(1),
                _ => return Err(Malformed),
            }
        }
    }

    /// One record; what it says if it is the OPT record.
    fn record(&mut self) -> Result<Option<Edns>, Malformed> {
        let root = self.bytes.get(self.at) == Some(&0);
        self.skip_name()?;
        let (kind, class) = (self.number()?, self.number()?);
        let (extended, flags) = (self.number()?, self.number()?);
        let length = self.number()?;
        self.skip(length.into())?;
        if kind != TYPE_OPT {
            return Ok(None);
        }
        let [_, version] = extended.to_be_bytes();
        if root { Ok(Some(Edns { udp_bytes: class, version, flags })) } else { Err(Malformed) }
    }
}

impl Query {
    /// Reads one.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Unanswerable> {
        let mut reader = Reader { bytes, at: 0 };
        let header = match (reader.number(), reader.number()) {
            (Ok(id), Ok(flags)) if bytes.len() >= HEADER_BYTES => Header { id, flags },
            _ => return Err(Unanswerable::Ignore),
        };
        if header.flags & FLAG_RESPONSE != 0 {
            return Err(Unanswerable::Ignore);
        }
        if header.flags & OPCODE != 0 {
            return Err(Unanswerable::Reply(header.bare(Code::NotImplemented)));
        }
        let malformed = |_| Unanswerable::Reply(header.bare(Code::FormatError));
        let (query, class, kind) = Self::body(header, &mut reader).map_err(malformed)?;
        if query.edns.is_some_and(|edns| edns.version > 0) {
            return Err(Unanswerable::Reply(query.reply(Code::BadVersion)));
        }
        if class != CLASS_IN || TYPES_TRANSFER.contains(&kind) {
            return Err(Unanswerable::Reply(query.reply(Code::Refused)));
        }
        Ok(query)
    }

    fn body(header: Header, reader: &mut Reader<'_>) -> Result<(Self, u16, u16), Malformed> {
        let counts = [reader.number()?, reader.number()?, reader.number()?];
        let additional = reader.number()?;
        if counts != [1, 0, 0] {
            return Err(Malformed);
        }
        let start = reader.at;
        let name = reader.name()?;
        let (number, class) = (reader.number()?, reader.number()?);
        let question = reader.bytes[start..reader.at].to_vec();
        let mut edns = None;
        for _ in 0..additional {
            let found = reader.record()?;
            // More than one is an error (RFC 6891, section 6.1.1).
            if found.is_some() && edns.is_some() {
                return Err(Malformed);
            }
            edns = edns.or(found);
        }
        let kind = match number {
            TYPE_A => RecordKind::A,
            TYPE_AAAA => RecordKind::Aaaa,
            TYPE_PTR => RecordKind::Ptr,
            _ => RecordKind::Other,
        };
        let end = reader.at;
        Ok((Self { header, name, kind, question, edns, end }, class, number))
    }

    /// How long an answer over UDP may be.
    pub(super) fn udp_limit(&self) -> usize {
        self.edns.map_or(PLAIN_UDP_BYTES, |edns| usize::from(edns.udp_bytes).max(PLAIN_UDP_BYTES))
    }

    /// An answer without records.
    pub(super) fn reply(&self, code: Code) -> Vec<u8> {
        self.write(FLAG_AUTHORITATIVE, code, &[])
    }

    /// An answer with addresses, as many as fit: if some do not, it says that it is cut off.
    pub(super) fn reply_addresses(&self, addresses: &[IpAddr], limit: usize) -> Vec<u8> {
        let limit = limit.min(usize::from(u16::MAX)) - OPT_BYTES;
        let mut left = limit.saturating_sub(HEADER_BYTES + self.question.len());
        let mut records = vec![];
        for address in addresses {
            let record = match address {
                IpAddr::V4(address) => record(TYPE_A, &address.octets()),
                IpAddr::V6(address) => record(TYPE_AAAA, &address.octets()),
            };
            let Some(rest) = left.checked_sub(record.len()) else { break };
            left = rest;
            records.push(record);
        }
        let cut = if records.len() < addresses.len() { FLAG_TRUNCATED } else { 0 };
        self.write(FLAG_AUTHORITATIVE | cut, Code::NoError, &records)
    }

    /// An answer with the name of an address.
    pub(super) fn reply_name(&self, name: &str) -> Vec<u8> {
        // A service's name may have dots in places where no domain name has them.
        let records = encode_name(name).map(|name| vec![record(TYPE_PTR, &name)]);
        self.write(FLAG_AUTHORITATIVE, Code::NoError, &records.unwrap_or_default())
    }

    /// That there is more than fits: the asker is to come again over TCP.
    pub(super) fn reply_cut_off(&self) -> Vec<u8> {
        self.write(FLAG_TRUNCATED, Code::NoError, &[])
    }

    fn write(&self, flags: u16, code: Code, records: &[Vec<u8>]) -> Vec<u8> {
        let flags = self.header.answer_flags(code) | flags;
        let count = u16::try_from(records.len()).unwrap_or(u16::MAX);
        let mut bytes = Vec::with_capacity(PLAIN_UDP_BYTES);
        for number in [self.header.id, flags, 1, count, 0, u16::from(self.edns.is_some())] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend(&self.question);
        records.iter().for_each(|record| bytes.extend(record));
        if let Some(edns) = self.edns {
            bytes.push(0);
            let [_, high] = (code.number() >> 4).to_be_bytes();
            let extended = u16::from_be_bytes([high, 0]);
            for number in [TYPE_OPT, EDNS_UDP_BYTES, extended, edns.flags & 0x8000, 0] {
                bytes.extend(number.to_be_bytes());
            }
        }
        bytes
    }

    /// What is sent to another server: the query as it came, with another id.
    pub(super) fn forwarded(&self, bytes: &[u8], id: u16) -> Vec<u8> {
        let mut bytes = bytes.get(..self.end).unwrap_or(bytes).to_vec();
        set_id(&mut bytes, id);
        bytes
    }

    /// Whether bytes are the answer to this question, asked with this id. Nothing else gets through to
    /// who asked.
    pub(super) fn is_answered_by(&self, bytes: &[u8], id: u16) -> bool {
        let mut reader = Reader { bytes, at: 0 };
        let (Ok(their_id), Ok(flags), Ok(1)) = (reader.number(), reader.number(), reader.number())
        else {
            return false;
        };
        let question = bytes.get(HEADER_BYTES..HEADER_BYTES + self.question.len());
        their_id == id
            && flags & (FLAG_RESPONSE | OPCODE) == FLAG_RESPONSE
            && question.is_some_and(|question| question.eq_ignore_ascii_case(&self.question))
    }

    /// The answer of another server as who asked gets it: with the id and the case that it asked with.
    pub(super) fn restored(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        set_id(&mut bytes, self.header.id);
        if let Some(question) = bytes.get_mut(HEADER_BYTES..HEADER_BYTES + self.question.len()) {
            question.copy_from_slice(&self.question);
        }
        bytes
    }
}

impl Header {
    const fn answer_flags(self, code: Code) -> u16 {
        FLAG_RESPONSE
            | self.flags & (OPCODE | FLAG_RECURSION_DESIRED)
            | FLAG_RECURSION_AVAILABLE
            | code.number() & RCODE
    }

    /// An answer to a question that cannot be repeated.
    fn bare(self, code: Code) -> Vec<u8> {
        let numbers = [self.id, self.answer_flags(code), 0, 0, 0, 0];
        numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
    }
}

/// An OPT record without options.
const OPT_BYTES: usize = 11;

fn record(kind: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap_or(u16::MAX);
    let mut bytes = POINTER_TO_QUESTION.to_vec();
    bytes.extend(kind.to_be_bytes());
    bytes.extend(CLASS_IN.to_be_bytes());
    bytes.extend(TTL_SECONDS.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend(data);
    bytes
}

fn encode_name(name: &str) -> Option<Vec<u8>> {
    let mut bytes = vec![];
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok()?;
        if !(1..=MAX_LABEL_BYTES).contains(&label.len()) {
            return None;
        }
        bytes.push(length);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    (bytes.len() <= MAX_NAME_BYTES).then_some(bytes)
}

fn set_id(bytes: &mut [u8], id: u16) {
    if let Some(place) = bytes.get_mut(..2) {
        place.copy_from_slice(&id.to_be_bytes());
    }
}

/// Whether an answer says that it is cut off.
pub(super) fn is_cut_off(answer: &[u8]) -> bool {
    flags(answer) & FLAG_TRUNCATED != 0
}

/// Whether a server did its part: it said what there is, or that there is nothing. Otherwise another one
/// may know (as the resolver of glibc has it: SERVFAIL, NOTIMP and REFUSED).
pub(super) fn is_useful(answer: &[u8]) -> bool {
    ![Code::ServerFailure, Code::NotImplemented, Code::Refused]
        .iter()
        .any(|code| code.number() == flags(answer) & RCODE)
}

fn flags(answer: &[u8]) -> u16 {
    answer
        .get(2..4)
        .map_or(0, |bytes| bytes.iter().fold(0, |flags, byte| flags << 8 | u16::from(*byte)))
}
