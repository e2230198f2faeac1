//! Writing messages.

use std::borrow::Cow;

/// Header of a message: length, type, flags, sequence number, port (linux/netlink.h).
pub(super) const MESSAGE_HEADER_BYTES: usize = 16;
/// Header of an attribute: length and type.
pub(super) const ATTRIBUTE_HEADER_BYTES: usize = 4;
/// The attribute holds attributes.
const NESTED: u16 = 0x8000;

/// Messages that are sent together, each with what is attempted by it.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    attempts: Vec<Cow<'static, str>>,
    /// The message that has an attribute longer than its length field can say.
    overlong: Option<usize>,
}

impl Batch {
    /// Adds a message: its type and flags, the header that messages of its kind have, its attributes.
    pub(crate) fn add(
        &mut self,
        attempt: impl Into<Cow<'static, str>>,
        (kind, flags): (u16, u16),
        header: &[u8],
        fill: impl FnOnce(&mut Attributes<'_>),
    ) {
        let start = self.bytes.len();
        let number = u32::try_from(self.attempts.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&number.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(header);
        pad(&mut self.bytes);
        let mut attributes = Attributes { bytes: &mut self.bytes, overlong: false };
        fill(&mut attributes);
        if attributes.overlong {
            self.overlong.get_or_insert(self.attempts.len());
        }
        match u32::try_from(self.bytes.len() - start) {
            Ok(length) => self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes()),
            Err(_) => self.overlong = Some(self.attempts.len()),
        }
        self.attempts.push(attempt.into());
    }

    /// What is attempted by a message, by its number in the batch.
    pub(crate) fn attempt(&self, number: usize) -> Option<&str> {
        self.attempts.get(number).map(AsRef::as_ref)
    }

    /// How many messages there are.
    pub(crate) fn len(&self) -> usize {
        self.attempts.len()
    }

    /// All messages as they are sent.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The first message that could not be written.
    pub(super) fn overlong(&self) -> Option<usize> {
        self.overlong
    }
}

/// The attributes of a message, written one after the other.
#[derive(Debug)]
pub(crate) struct Attributes<'a> {
    bytes: &'a mut Vec<u8>,
    overlong: bool,
}

impl Attributes<'_> {
    /// Bytes as they are.
    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.write(kind, |attributes| attributes.bytes.extend_from_slice(value))
    }

    /// A number in the machine's order.
    pub(crate) fn native(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// A number in the network's order.
    pub(crate) fn big(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Text, with the zero byte that ends it.
    pub(crate) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.write(kind, |attributes| {
            attributes.bytes.extend_from_slice(value.as_bytes());
            attributes.bytes.push(0);
        })
    }

    /// Attributes within an attribute.
    pub(crate) fn nested(
        &mut self,
        kind: u16,
        fill: impl FnOnce(&mut Attributes<'_>),
    ) -> &mut Self {
        self.write(kind | NESTED, |attributes| {
            let mut inner = Attributes { bytes: attributes.bytes, overlong: false };
            fill(&mut inner);
            attributes.overlong |= inner.overlong;
        })
    }

    /// Bytes that are no attribute: some attributes begin with a header of their own.
    pub(crate) fn header(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        pad(self.bytes);
    }

    /// How many bytes the message has so far, and everything before it.
    pub(crate) fn position(&self) -> usize {
        self.bytes.len()
    }

    fn write(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes<'_>)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        let mut inner = Attributes { bytes: self.bytes, overlong: false };
        fill(&mut inner);
        self.overlong |= inner.overlong;
        match u16::try_from(self.bytes.len() - start) {
            Ok(length) => self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes()),
            Err(_) => self.overlong = true,
        }
        pad(self.bytes);
        self
    }
}

/// Messages and attributes begin at multiples of four bytes.
fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}
