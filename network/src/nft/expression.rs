//! Statements as expressions: small instructions that load, compare and decide.

use limpet_protocol::network::Subnet;

use super::registers::{
    FIRST, address_bytes, key_bytes, name_bytes, padded_width, transport_number, width,
};
use crate::netlink::Attributes;
use crate::rules::{Devices, Direction, Family, Field, Refusal, Side, Statement, Transport, Value};

/// Keys of `meta` (`enum nft_meta_keys`).
const IN_NAME: u32 = 6;
const OUT_NAME: u32 = 7;
const FAMILY: u32 = 15;
const TRANSPORT: u32 = 16;
/// Keys of `ct` (`enum nft_ct_keys`), and its direction of the first packet.
const STATE: u32 = 0;
const STATUS: u32 = 2;
const DESTINATION_V4: u32 = 20;
const DESTINATION_V6: u32 = 22;
const ORIGINAL: u8 = 0;
/// Bits of `ct state` (`NF_CT_STATE_BIT`) and `ct status` (`IPS_DST_NAT`).
const INVALID: u32 = 1;
const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
const DESTINATION_TRANSLATED: u32 = 32;
/// Which header is meant (`enum nft_payload_bases`).
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
/// Comparisons (`enum nft_cmp_ops`).
const EQUAL: u32 = 0;
const DIFFERENT: u32 = 1;
/// Verdicts (`enum nft_verdicts`, linux/netfilter.h).
const DROP: u32 = 0;
const ACCEPT: u32 = 1;
const GOTO: u32 = (-4_i32).cast_unsigned();
/// The register of the verdict.
const VERDICT: u32 = 0;
/// The second thing that is loaded, far enough behind an address.
const SECOND: u32 = FIRST + 4;
/// The flag of a packet that begins a TCP connection (RFC 9293).
const SYN: u8 = 2;
/// The key of `rt` (`enum nft_rt_keys`), and the kind of `exthdr` (`enum nft_exthdr_op`).
const SEGMENT_SIZE: u32 = 3;
const TCP_OPTION: u32 = 1;
/// The type of an address that is the node's own (`RTN_LOCAL`, linux/rtnetlink.h).
const LOCAL: u32 = 2;

/// The number of a family in nf_tables (`NFPROTO_IPV4`, `NFPROTO_IPV6`).
pub(super) fn family_number(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

/// Writes a rule. That a packet is of the family that its statements are about is looked at first.
pub(super) fn write_rule(list: &mut Attributes<'_>, rule: &[Statement]) {
    let family = rule.iter().find_map(Statement::family);
    if let Some(family) = family {
        meta(list, FAMILY, FIRST);
        compare(list, EQUAL, &[family_number(family)]);
    }
    for statement in rule {
        write_statement(list, statement);
    }
}

fn write_statement(list: &mut Attributes<'_>, statement: &Statement) {
    match statement {
        Statement::Device(direction, devices, is) => write_device(list, *direction, devices, *is),
        Statement::Family(_) => {}
        Statement::Transport(transport) => {
            meta(list, TRANSPORT, FIRST);
            compare(list, EQUAL, &[transport_number(*transport)]);
        }
        Statement::Port(port) => {
            load(list, &[Field::Port]);
            compare(list, EQUAL, &port.to_be_bytes());
        }
        Statement::EchoRequest(family) => write_echo_request(list, *family),
        Statement::Address(side, range, is) => write_address(list, *side, *range, *is),
        Statement::OwnDestination => {
            expression(list, "fib", |fib| {
                fib.big(1, FIRST).big(2, 3).big(3, 2);
            });
            compare(list, EQUAL, &LOCAL.to_ne_bytes());
        }
        Statement::Established => write_bits(list, STATE, ESTABLISHED_OR_RELATED),
        Statement::Invalid => write_bits(list, STATE, INVALID),
        Statement::ClampSegments => write_clamp(list),
        Statement::Translated => write_bits(list, STATUS, DESTINATION_TRANSLATED),
        Statement::In(fields, set) => {
            load(list, fields);
            lookup(list, set, None);
        }
        Statement::Dispatch(fields, map) => {
            load(list, fields);
            lookup(list, map, Some(VERDICT));
        }
        _ => write_end(list, statement),
    }
}

/// What becomes of the packet.
fn write_end(list: &mut Attributes<'_>, statement: &Statement) {
    match statement {
        Statement::Goto(chain) => write_verdict(list, GOTO, Some(chain)),
        Statement::Accept => write_verdict(list, ACCEPT, None),
        Statement::Drop => write_verdict(list, DROP, None),
        Statement::Refuse(refusal) => {
            // `enum nft_reject_types`, `enum nft_reject_inet_code`.
            let (kind, code) = match refusal {
                Refusal::Reset => (1, 0),
                Refusal::PortUnreachable => (2, 1),
                Refusal::Prohibited => (2, 3),
            };
            expression(list, "reject", |reject| {
                reject.big(1, kind).bytes(2, &[code]);
            });
        }
        Statement::Balance { family, row, count, port } => {
            // `enum nft_ng_attributes`: the register, how many, one after the other.
            expression(list, "numgen", |numbers| {
                numbers.big(1, FIRST).big(2, *count).big(3, 0);
            });
            lookup(list, row, Some(FIRST));
            if let Some(port) = port {
                immediate(list, SECOND, &port.to_be_bytes());
            }
            translate(list, 1, *family, port.is_some());
        }
        Statement::SourceBecomes(address) => {
            immediate(list, FIRST, &address_bytes(*address));
            translate(list, 0, Family::of(*address), false);
        }
        Statement::Masquerade => expression(list, "masq", |_| {}),
        _ => {}
    }
}

/// One expression: its name and its attributes.
fn expression(list: &mut Attributes<'_>, name: &str, fill: impl FnOnce(&mut Attributes<'_>)) {
    list.nested(1, |element| {
        element.text(1, name).nested(2, fill);
    });
}

fn meta(list: &mut Attributes<'_>, key: u32, register: u32) {
    expression(list, "meta", |meta| {
        meta.big(1, register).big(2, key);
    });
}

/// Loads bytes of a header.
fn payload(list: &mut Attributes<'_>, register: u32, (base, offset, length): (u32, u32, u32)) {
    expression(list, "payload", |payload| {
        payload.big(1, register).big(2, base).big(3, offset).big(4, length);
    });
}

/// Compares what is in the first register with bytes.
fn compare(list: &mut Attributes<'_>, how: u32, with: &[u8]) {
    expression(list, "cmp", |compare| {
        compare.big(1, FIRST).big(2, how).nested(3, |data| {
            data.bytes(1, with);
        });
    });
}

fn immediate(list: &mut Attributes<'_>, register: u32, value: &[u8]) {
    expression(list, "immediate", |immediate| {
        immediate.big(1, register).nested(2, |data| {
            data.bytes(1, value);
        });
    });
}

/// Keeps the bits of a mask of what is in the first register.
fn mask(list: &mut Attributes<'_>, mask: &[u8]) {
    expression(list, "bitwise", |bitwise| {
        let length = u32::try_from(mask.len()).unwrap_or_default();
        bitwise.big(1, FIRST).big(2, FIRST).big(3, length);
        bitwise.nested(4, |data| {
            data.bytes(1, mask);
        });
        bitwise.nested(5, |data| {
            data.bytes(1, &vec![0; mask.len()]);
        });
    });
}

fn lookup(list: &mut Attributes<'_>, set: &str, into: Option<u32>) {
    expression(list, "lookup", |lookup| {
        lookup.text(1, set).big(2, FIRST);
        if let Some(register) = into {
            lookup.big(3, register);
        }
    });
}

/// Loads fields one behind the other.
fn load(list: &mut Attributes<'_>, fields: &[Field]) {
    let mut register = FIRST;
    for field in fields {
        let width = width(*field);
        // Offsets: RFC 791, RFC 8200; the port's is the same in TCP and UDP (RFC 9293, RFC 768).
        match field {
            Field::InDevice => meta(list, IN_NAME, register),
            Field::Transport => meta(list, TRANSPORT, register),
            Field::Source(Family::V4) => payload(list, register, (NETWORK_HEADER, 12, width)),
            Field::Destination(Family::V4) => payload(list, register, (NETWORK_HEADER, 16, width)),
            Field::Source(Family::V6) => payload(list, register, (NETWORK_HEADER, 8, width)),
            Field::Destination(Family::V6) => payload(list, register, (NETWORK_HEADER, 24, width)),
            Field::Port => payload(list, register, (TRANSPORT_HEADER, 2, width)),
        }
        register += padded_width(&[*field]) / 4;
    }
}

fn write_device(list: &mut Attributes<'_>, direction: Direction, devices: &Devices, is: bool) {
    let key = if direction == Direction::In { IN_NAME } else { OUT_NAME };
    meta(list, key, FIRST);
    let how = if is { EQUAL } else { DIFFERENT };
    match devices {
        Devices::Named(name) => compare(list, how, &name_bytes(name)),
        Devices::Begin(prefix) => compare(list, how, prefix.as_bytes()),
    }
}

/// Writes the segment size of the route into the option of a packet with SYN. The kernel only ever
/// makes it smaller (`nft_exthdr_tcp_set_eval`).
fn write_clamp(list: &mut Attributes<'_>) {
    meta(list, TRANSPORT, FIRST);
    compare(list, EQUAL, &[transport_number(Transport::Tcp)]);
    payload(list, FIRST, (TRANSPORT_HEADER, 13, 1));
    mask(list, &[SYN]);
    compare(list, DIFFERENT, &[0]);
    expression(list, "rt", |rt| {
        rt.big(1, FIRST).big(2, SEGMENT_SIZE);
    });
    // `enum nft_byteorder_attributes`: two bytes, to the order of the network.
    expression(list, "byteorder", |order| {
        order.big(1, FIRST).big(2, FIRST).big(3, 1).big(4, 2).big(5, 2);
    });
    // `enum nft_exthdr_attributes`: the option's kind (RFC 9293), where its value is, how long that is.
    expression(list, "exthdr", |option| {
        option.bytes(2, &[2]).big(3, 2).big(4, 2).big(6, TCP_OPTION).big(7, FIRST);
    });
}

/// The type is the first byte of the message (RFC 792, RFC 4443).
fn write_echo_request(list: &mut Attributes<'_>, family: Family) {
    let (protocol, kind) = match family {
        Family::V4 => (1, 8),
        Family::V6 => (58, 128),
    };
    meta(list, TRANSPORT, FIRST);
    compare(list, EQUAL, &[protocol]);
    payload(list, FIRST, (TRANSPORT_HEADER, 0, 1));
    compare(list, EQUAL, &[kind]);
}

fn write_address(list: &mut Attributes<'_>, side: Side, range: Subnet, is: bool) {
    let family = Family::of(range.address());
    match side {
        Side::Source => load(list, &[Field::Source(family)]),
        Side::Destination => load(list, &[Field::Destination(family)]),
        Side::OriginalDestination => {
            let key = if family == Family::V4 { DESTINATION_V4 } else { DESTINATION_V6 };
            expression(list, "ct", |ct| {
                ct.big(1, FIRST).big(2, key).bytes(3, &[ORIGINAL]);
            });
        }
    }
    let address = address_bytes(range.address());
    let whole = usize::from(range.prefix()) == address.len() * 8;
    if !whole {
        mask(list, &mask_bytes(range.prefix(), address.len()));
    }
    compare(list, if is { EQUAL } else { DIFFERENT }, &address);
}

/// That many bits from the left.
fn mask_bytes(prefix: u8, length: usize) -> Vec<u8> {
    let bits = |byte: usize| usize::from(prefix).saturating_sub(byte * 8).min(8);
    let byte = |bits: usize| 0xff_u8.checked_shl(8 - u32::try_from(bits).unwrap_or(8)).unwrap_or(0);
    (0..length).map(|number| byte(bits(number))).collect()
}

/// Some of these bits are set.
fn write_bits(list: &mut Attributes<'_>, key: u32, bits: u32) {
    expression(list, "ct", |ct| {
        ct.big(1, FIRST).big(2, key);
    });
    mask(list, &bits.to_ne_bytes());
    compare(list, DIFFERENT, &[0; 4]);
}

fn write_verdict(list: &mut Attributes<'_>, code: u32, chain: Option<&str>) {
    expression(list, "immediate", |immediate| {
        immediate.big(1, VERDICT).nested(2, |data| verdict(data, code, chain));
    });
}

fn verdict(data: &mut Attributes<'_>, code: u32, chain: Option<&str>) {
    data.nested(2, |verdict| {
        verdict.big(1, code);
        if let Some(chain) = chain {
            verdict.text(2, chain);
        }
    });
}

/// An entry of a map that leads to a chain.
pub(super) fn write_chain_entry(entry: &mut Attributes<'_>, key: &[Value], chain: &str) {
    entry.nested(1, |data| {
        data.bytes(1, &key_bytes(key));
    });
    entry.nested(2, |data| verdict(data, GOTO, Some(chain)));
}

/// Translates the source (0) or the destination (1) to the address in the first register, and the port
/// to that in the second (`enum nft_nat_attributes`).
fn translate(list: &mut Attributes<'_>, kind: u32, family: Family, port: bool) {
    expression(list, "nat", |nat| {
        nat.big(1, kind).big(2, u32::from(family_number(family))).big(3, FIRST);
        if port {
            nat.big(5, SECOND);
        }
    });
}
