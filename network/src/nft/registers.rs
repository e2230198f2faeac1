//! What is loaded into registers: fields of packets, one behind the other, and the values that they are
//! compared with.
//!
//! Registers are of four bytes; every field begins in a new one.

use core::net::IpAddr;

use crate::rules::{Family, Field, Transport, Value};

/// The first register of four bytes (`NFT_REG32_00`).
pub(super) const FIRST: u32 = 8;
/// Bytes of a device's name (`IFNAMSIZ`, linux/if.h).
pub(super) const NAME_BYTES: u32 = 16;
/// Numbers of protocols (IANA, Assigned Internet Protocol Numbers).
const TCP: u8 = 6;
const UDP: u8 = 17;

/// How many bytes a field has.
pub(super) fn width(field: Field) -> u32 {
    match field {
        Field::InDevice => NAME_BYTES,
        Field::Source(Family::V4) | Field::Destination(Family::V4) => 4,
        Field::Source(Family::V6) | Field::Destination(Family::V6) => 16,
        Field::Transport => 1,
        Field::Port => 2,
    }
}

/// How many bytes several fields take in registers.
pub(super) fn padded_width(fields: &[Field]) -> u32 {
    fields.iter().map(|field| width(*field).next_multiple_of(4)).sum()
}

/// What nft(8) calls the type of a field: for people who list the rules with it (its datatype.h).
pub(super) fn type_number(fields: &[Field]) -> u32 {
    const BITS: u32 = 6;
    let number = |field: &Field| match field {
        Field::InDevice => 41,
        Field::Source(Family::V4) | Field::Destination(Family::V4) => 7,
        Field::Source(Family::V6) | Field::Destination(Family::V6) => 8,
        Field::Transport => 12,
        Field::Port => 13,
    };
    fields.iter().fold(0, |so_far, field| (so_far << BITS) | number(field))
}

/// The number of a transport protocol.
pub(super) fn transport_number(transport: Transport) -> u8 {
    match transport {
        Transport::Tcp => TCP,
        Transport::Udp => UDP,
    }
}

/// An address as it is in a packet.
pub(super) fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// A device's name as the kernel loads it.
pub(super) fn name_bytes(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(usize::try_from(NAME_BYTES).unwrap_or_default(), 0);
    bytes
}

/// Values as they are in registers.
pub(super) fn key_bytes(values: &[Value]) -> Vec<u8> {
    let mut bytes = vec![];
    for value in values {
        match value {
            Value::Device(name) => bytes.extend(name_bytes(name)),
            Value::Address(address) => bytes.extend(address_bytes(*address)),
            Value::Transport(transport) => bytes.push(transport_number(*transport)),
            Value::Port(port) => bytes.extend(port.to_be_bytes()),
        }
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}
