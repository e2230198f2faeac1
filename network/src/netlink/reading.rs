//! Reading messages: lengths are believed only as far as there are bytes.

use super::message::{ATTRIBUTE_HEADER_BYTES, MESSAGE_HEADER_BYTES};

/// Flags of an attribute's type that are not part of it: nested, byte order of the network.
const FLAGS: u16 = 0xc000;

/// One message as it was received.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) body: &'a [u8],
}

/// One attribute.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attribute<'a> {
    /// Its type.
    pub(crate) kind: u16,
    /// Its content.
    pub(crate) value: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The text up to the zero byte that ends it.
    pub(crate) fn text(&self) -> Option<&'a str> {
        let end = self.value.iter().position(|byte| *byte == 0).unwrap_or(self.value.len());
        core::str::from_utf8(&self.value[..end]).ok()
    }
}

/// The messages in what was received at once.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    core::iter::from_fn(move || {
        let length = usize::try_from(native_u32(bytes, 0)?).ok()?;
        let message = bytes.get(..length).filter(|m| m.len() >= MESSAGE_HEADER_BYTES)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message {
            kind: native_u16(message, 4)?,
            flags: native_u16(message, 6)?,
            sequence: native_u32(message, 8)?,
            body: &message[MESSAGE_HEADER_BYTES..],
        })
    })
}

/// The attributes in a message behind the header of its kind, or in an attribute.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    core::iter::from_fn(move || {
        let length = usize::from(native_u16(bytes, 0)?);
        let attribute = bytes.get(..length).filter(|a| a.len() >= ATTRIBUTE_HEADER_BYTES)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        let kind = native_u16(attribute, 2)? & !FLAGS;
        Some(Attribute { kind, value: &attribute[ATTRIBUTE_HEADER_BYTES..] })
    })
}

fn native_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// A number in the machine's order.
pub(crate) fn native_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
