//! The bytes that the kernel gets, and what is read of what it says. The layout is checked against
//! linux/wireguard.h by hand: the kernels that tests run on have no WireGuard.

use std::collections::HashMap;
use std::time::Duration;

use super::message::*;
use crate::netlink::Batch;
use crate::tunnel::{PublicKey, TunnelPeer};

const FAMILY: u16 = 0x1c;

fn bytes(fill: impl FnOnce(&mut Batch)) -> Vec<u8> {
    let mut batch = Batch::default();
    fill(&mut batch);
    batch.bytes().to_vec()
}

/// The header of a message: its length is that of all.
fn head(length: u32, kind: u16, flags: u16) -> Vec<u8> {
    [
        &length.to_ne_bytes()[..],
        &kind.to_ne_bytes(),
        &flags.to_ne_bytes(),
        &0_u32.to_ne_bytes(),
        &0_u32.to_ne_bytes(),
    ]
    .concat()
}

/// An attribute, padded.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap();
    let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn nested(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | 0x8000, &parts.concat())
}

fn message(kind: u16, flags: u16, command: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    let body = [vec![command, 1, 0, 0], parts.concat()].concat();
    [head(u32::try_from(16 + body.len()).unwrap(), kind, flags), body].concat()
}

fn peer(key: u8) -> TunnelPeer {
    TunnelPeer {
        key: PublicKey([key; 32]),
        endpoints: vec!["198.18.0.2:51820".parse().unwrap()],
        allowed: vec!["10.129.2.0/24".parse().unwrap(), "fd00:0:0:2::/64".parse().unwrap()],
        keepalive: Some(Duration::from_secs(25)),
    }
}

#[test]
fn the_family_is_asked_for_and_read() {
    let expected = message(0x10, 1, 3, &[attribute(2, b"wireguard\0")]);
    assert_eq!(bytes(get_family), expected);
    let answer = [vec![1, 2, 0, 0], attribute(2, b"wireguard\0"), attribute(1, &[0x1c, 0])];
    assert_eq!(family(&answer.concat()), Some(u16::from_ne_bytes([0x1c, 0])));
    assert_eq!(family(&[]), None);
    assert_eq!(family(&[1, 2, 0, 0, 5]), None);
}

#[test]
fn a_device_gets_its_key_and_port() {
    let got = bytes(|batch| set_device(batch, FAMILY, "lw123456", (&[7; 32], 51_820)));
    let port = 51_820_u16.to_ne_bytes();
    let parts = [attribute(2, b"lw123456\0"), attribute(3, &[7; 32]), attribute(6, &port)];
    assert_eq!(got, message(FAMILY, 5, 1, &parts));
    let got = bytes(|batch| get_device(batch, FAMILY, "lw1"));
    assert_eq!(got, message(FAMILY, 0x301, 0, &[attribute(2, b"lw1\0")]));
}

#[test]
fn peers_are_told_as_the_kernel_reads_them() {
    let subnet = |family: u16, octets: &[u8], prefix: u8| {
        let family = attribute(1, &family.to_ne_bytes());
        nested(0, &[family, attribute(2, octets), attribute(3, &[prefix])])
    };
    let six = [0xfd, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0];
    let told = |key: u8, flags: u32, more: &[Vec<u8>]| {
        let parts =
            [&[attribute(1, &[key; 32]), attribute(3, &flags.to_ne_bytes())], more].concat();
        message(FAMILY, 5, 1, &[attribute(2, b"lw1\0"), nested(8, &[nested(0, &parts)])])
    };
    let subnets = nested(9, &[subnet(2, &[10, 129, 2, 0], 24), subnet(10, &six, 64)]);
    let expected = told(1, 2, &[attribute(5, &25_u16.to_ne_bytes()), subnets]);
    let nothing = HashMap::new();
    let got = bytes(|batch| set_peers(batch, (FAMILY, "lw1"), &[peer(1)], &nothing));
    assert_eq!(got, expected);

    let four = [2_u16.to_ne_bytes(), [0xca, 0x6c], [198, 18], [0, 2]].concat();
    let expected = told(1, 4, &[attribute(4, &[four, vec![0; 8]].concat())]);
    let endpoint = "198.18.0.2:51820".parse().unwrap();
    let key = PublicKey([1; 32]);
    assert_eq!(bytes(|batch| set_endpoint(batch, (FAMILY, "lw1"), key, endpoint)), expected);
    let endpoint = "[fd00::7]:51820".parse().unwrap();
    let got = bytes(|batch| set_endpoint(batch, (FAMILY, "lw1"), key, endpoint));
    assert_eq!(got.len(), told(1, 4, &[attribute(4, &[0; 28])]).len());
}

#[test]
fn what_the_kernel_lists_is_read_and_only_differences_are_told() {
    let timespec = [&1_700_000_000_u64.to_ne_bytes()[..], &5_u64.to_ne_bytes()].concat();
    let entry = |octets: &[u8], prefix| nested(0, &[attribute(2, octets), attribute(3, &[prefix])]);
    let first = [
        attribute(1, &[1; 32]),
        attribute(4, &[&2_u16.to_ne_bytes()[..], &[0xca, 0x6c, 198, 18, 0, 2], &[0; 8]].concat()),
        attribute(5, &25_u16.to_ne_bytes()),
        attribute(6, &timespec),
        attribute(7, &1000_u64.to_ne_bytes()),
        attribute(8, &2000_u64.to_ne_bytes()),
        nested(9, &[entry(&[10, 129, 2, 0], 24)]),
    ];
    let six = [0xfd, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0];
    // The list of its subnets goes on in the next part.
    let rest = [attribute(1, &[1; 32]), nested(9, &[entry(&six, 64)])];
    let header = vec![0, 1, 0, 0];
    let part = |peer: &[Vec<u8>]| [header.clone(), nested(8, &[nested(0, peer)])].concat();
    let parts = [part(&first), part(&rest)];
    let found = peers(parts.iter().map(Vec::as_slice));
    let is = &found[&PublicKey([1; 32])];
    assert_eq!(is.endpoint, Some("198.18.0.2:51820".parse().unwrap()));
    assert_eq!((is.keepalive_seconds, is.received, is.sent), (25, 1000, 2000));
    assert_eq!(is.allowed, peer(1).allowed.into_iter().collect());
    let now = Duration::from_secs(1_700_000_010);
    assert_eq!(is.status(now).last_handshake, Some(Duration::new(9, 999_999_995)));
    let tell = |wanted: &[TunnelPeer]| {
        let mut batch = Batch::default();
        set_peers(&mut batch, (FAMILY, "lw1"), wanted, &found);
        (0..batch.len()).map(|n| batch.attempt(n).unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert!(tell(&[peer(1)]).is_empty());
    assert_eq!(tell(&[]), ["remove peer 01010101… of lw1"]);
    assert_eq!(tell(&[peer(1), peer(2)]), ["set peer 02020202… of lw1"]);
    let other = TunnelPeer { keepalive: None, ..peer(1) };
    assert_eq!(tell(&[other]), ["set peer 01010101… of lw1"]);
    assert!(peers([&[][..], &[0; 3], &parts[0][..40]].into_iter()).is_empty());
}
