//! What is read and written, checked against another DNS library, and any bytes at all.

use std::net::IpAddr;

use proptest::prelude::*;
use simple_dns::rdata::{OPT, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};

use super::message::{Code, Query, Unanswerable, is_cut_off, is_useful};
use crate::names::RecordKind;

/// A query as another library writes it.
fn query(name: &str, kind: TYPE, edns: Option<u16>) -> Vec<u8> {
    let mut packet = Packet::new_query(0x1234);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name).unwrap();
    packet.questions.push(Question::new(name, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false));
    if let Some(udp_packet_size) = edns {
        *packet.opt_mut() = Some(OPT { opt_codes: vec![], udp_packet_size, version: 0 });
    }
    packet.build_bytes_vec().unwrap()
}

fn read(bytes: &[u8]) -> Query {
    Query::read(bytes).unwrap()
}

/// The code of the answer to what is no proper query; none if it gets no answer.
fn refused(bytes: &[u8]) -> Option<u16> {
    match Query::read(bytes) {
        Err(Unanswerable::Ignore) => None,
        Err(Unanswerable::Reply(reply)) => {
            assert_eq!(reply[..2], bytes[..2], "the id is kept");
            assert!(reply[2] & 0x80 != 0);
            Some(u16::from(reply[3] & 15))
        }
        Ok(query) => panic!("{query:?}"),
    }
}

#[test]
fn what_another_library_writes_is_read() {
    for (name, kind, expected) in [
        ("web", TYPE::A, RecordKind::A),
        ("Web.Shop", TYPE::AAAA, RecordKind::Aaaa),
        ("4.3.2.1.in-addr.arpa", TYPE::PTR, RecordKind::Ptr),
        ("example.org", TYPE::MX, RecordKind::Other),
    ] {
        let query = read(&query(name, kind, None));
        assert_eq!((query.name.as_str(), query.kind), (name, expected));
        assert_eq!(query.udp_limit(), 512);
    }
    let limit = |size| read(&query("web", TYPE::A, Some(size))).udp_limit();
    assert_eq!([0, 511, 512, 1400, u16::MAX].map(limit), [512, 512, 512, 1400, 65_535]);
}

#[test]
fn another_library_reads_the_answers() {
    let six: IpAddr = "fd00::7".parse().unwrap();
    let addresses = [IpAddr::from([10, 128, 0, 1]), six];
    let reply = read(&query("wEb", TYPE::A, Some(4096))).reply_addresses(&addresses, 1232);
    let packet = Packet::parse(&reply).unwrap();
    assert_eq!((packet.id(), packet.rcode()), (0x1234, RCODE::NoError));
    assert!(packet.has_flags(
        PacketFlag::RESPONSE
            | PacketFlag::AUTHORITATIVE_ANSWER
            | PacketFlag::RECURSION_DESIRED
            | PacketFlag::RECURSION_AVAILABLE
    ));
    assert_eq!(packet.questions[0].qname.to_string(), "wEb");
    assert_eq!(packet.opt().unwrap().udp_packet_size, 1232);
    let got: Vec<IpAddr> = packet
        .answers
        .iter()
        .map(|answer| match &answer.rdata {
            RData::A(a) => IpAddr::from(a.address.to_be_bytes()),
            RData::AAAA(a) => IpAddr::from(a.address.to_be_bytes()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(got, addresses);
    assert!(packet.answers.iter().all(|answer| answer.ttl == 0));
    let query = read(&query("7.0.129.10.in-addr.arpa", TYPE::PTR, None));
    let reply = query.reply_name("shop.web.1.limpet");
    let packet = Packet::parse(&reply).unwrap();
    let RData::PTR(name) = &packet.answers[0].rdata else { panic!("{packet:?}") };
    assert_eq!(name.to_string(), "shop.web.1.limpet");
    assert!(packet.opt().is_none(), "no EDNS where none was asked with");
    for impossible in ["a..b", "", &"x".repeat(64), &["y"; 128].join(".")] {
        let reply = query.reply_name(impossible);
        assert_eq!(Packet::parse(&reply).unwrap().answers.len(), 0, "{impossible}");
    }
}

#[test]
fn what_does_not_fit_is_cut_off_and_says_so() {
    let addresses: Vec<IpAddr> = (0..100).map(|n| IpAddr::from([10, 129, 0, n])).collect();
    for (edns, limit) in [(None, 512), (Some(4096), 1232)] {
        let reply = read(&query("tasks.web", TYPE::A, edns)).reply_addresses(&addresses, limit);
        assert!(reply.len() <= limit && reply.len() > limit - 30, "{}", reply.len());
        assert!(is_cut_off(&reply));
        assert!(Packet::parse(&reply).unwrap().answers.len() > 20);
    }
    let whole = read(&query("tasks.web", TYPE::A, None)).reply_addresses(&addresses, 65_535);
    assert!(!is_cut_off(&whole));
    assert_eq!(Packet::parse(&whole).unwrap().answers.len(), 100);
}

#[test]
fn codes_reach_the_asker() {
    let query = read(&query("web", TYPE::A, Some(1232)));
    for (code, expected, useful) in [
        (Code::NoError, RCODE::NoError, true),
        (Code::FormatError, RCODE::FormatError, true),
        (Code::ServerFailure, RCODE::ServerFailure, false),
        (Code::NoSuchName, RCODE::NameError, true),
        (Code::NotImplemented, RCODE::NotImplemented, false),
        (Code::Refused, RCODE::Refused, false),
    ] {
        let reply = query.reply(code);
        assert_eq!(Packet::parse(&reply).unwrap().rcode(), expected);
        assert_eq!(is_useful(&reply), useful, "{code:?}");
    }
    // RFC 6891, section 6.1.3: the upper bits of the code are the first byte of what is the time to live
    // elsewhere. The other library looks for them in the last one.
    let reply = query.reply(Code::BadVersion);
    assert_eq!((reply[3] & 15, &reply[reply.len() - 6..]), (0, &[1, 0, 0, 0, 0, 0][..]));
    assert!(is_cut_off(&query.reply_cut_off()));
}

#[test]
fn hostile_and_odd_queries_get_an_error_or_nothing() {
    let good = query("web", TYPE::A, Some(1232));
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    for end in 0..12 {
        assert_eq!(refused(&good[..end]), None, "{end} bytes");
    }
    for end in 12..good.len() {
        assert_eq!(refused(&good[..end]), Some(1), "{end} bytes");
    }
    let pointer_to_itself = [&good[..12], &[0xc0, 12, 0, 1, 0, 1]].concat();
    let two_opt = {
        let opt = &good[good.len() - 11..];
        let mut bytes = [&good, opt].concat();
        bytes[11] = 2;
        bytes
    };
    let long_name = {
        let labels = [[63].as_slice(), &[b'a'; 63]].concat().repeat(4);
        [&good[..12], &labels, &[0, 0, 1, 0, 1]].concat()
    };
    for (bytes, expected, what) in [
        (with(2, 0x81), None, "an answer"),
        (with(2, 0x29), Some(4), "an update"),
        (with(5, 0), Some(1), "no question"),
        (with(5, 2), Some(1), "two questions"),
        (with(7, 1), Some(1), "an answer in a query"),
        (with(9, 1), Some(1), "an authority in a query"),
        (with(11, 9), Some(1), "records that are not there"),
        (with(12, 0x40), Some(1), "a reserved kind of label"),
        (pointer_to_itself, Some(1), "a pointer in a question"),
        (two_opt, Some(1), "two OPT records"),
        (long_name, Some(1), "a name of more than 255 bytes"),
        (with(20, 3), Some(5), "another class"),
        (with(18, 252), Some(5), "a transfer"),
        (with(good.len() - 5, 1), Some(0), "a newer EDNS: its code is in two places"),
    ] {
        assert_eq!(refused(&bytes), expected, "{what}");
    }
}

#[test]
fn odd_bytes_in_a_name_cannot_be_taken_for_others() {
    let mut bytes = query("a-b", TYPE::A, None);
    for (byte, expected) in
        [(b'.', "a\\046b"), (b'\\', "a\\092b"), (0, "a\\000b"), (255, "a\\255b")]
    {
        bytes[14] = byte;
        assert_eq!(read(&bytes).name, expected);
    }
}

#[test]
fn only_the_answer_to_the_question_is_taken() {
    let bytes = query("Example.org", TYPE::A, None);
    let query = read(&bytes);
    let forwarded = query.forwarded(&[&bytes[..], b"behind"].concat(), 0xbeef);
    assert_eq!((&forwarded[..2], &forwarded[2..]), (&[0xbe, 0xef][..], &bytes[2..]));
    let answer = |name: &str, id: u16| {
        let mut answer = read(&self::query(name, TYPE::A, None)).reply(Code::NoError);
        answer[..2].copy_from_slice(&id.to_be_bytes());
        answer
    };
    assert!(query.is_answered_by(&answer("EXAMPLE.ORG", 0xbeef), 0xbeef));
    assert!(!query.is_answered_by(&answer("example.org", 0xbeee), 0xbeef));
    assert!(!query.is_answered_by(&answer("example.net", 0xbeef), 0xbeef));
    assert!(!query.is_answered_by(&forwarded, 0xbeef), "the question is no answer");
    assert!(!query.is_answered_by(&answer("example.org", 0xbeef)[..20], 0xbeef));
    assert!(!query.is_answered_by(&[], 0));
    let restored = query.restored(answer("EXAMPLE.ORG", 0xbeef));
    assert_eq!(restored[..2], bytes[..2]);
    assert_eq!(Packet::parse(&restored).unwrap().questions[0].qname.to_string(), "Example.org");
}

proptest! {
    #[test]
    fn any_bytes_get_an_answer_or_none(
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600),
        limit in 100_usize..2000,
    ) {
        probe(&bytes, limit);
    }

    #[test]
    fn a_query_with_some_bytes_changed_does_too(
        changes in proptest::collection::vec((0_usize..40, proptest::num::u8::ANY), 1..4),
        limit in 100_usize..2000,
    ) {
        let mut bytes = query("tasks.web.shop", TYPE::A, Some(1232));
        for (at, value) in changes {
            let length = bytes.len();
            bytes[at % length] = value;
        }
        probe(&bytes, limit);
    }
}

/// Nothing panics, answers are well-formed and keep to their limit.
fn probe(bytes: &[u8], limit: usize) {
    match Query::read(bytes) {
        Ok(query) => {
            assert!(query.end <= bytes.len() && query.name.len() <= 4 * 255);
            let addresses = [IpAddr::from([10, 0, 0, 1]); 50];
            // The question itself may be longer than the least limit.
            assert!(query.reply_addresses(&addresses, limit).len() <= limit.max(12 + 255 + 4 + 11));
            assert!(query.forwarded(bytes, 7).len() <= bytes.len());
            assert!(!query.is_answered_by(bytes, 7));
        }
        Err(Unanswerable::Reply(reply)) => {
            assert!(reply.len() <= 12 + 255 + 4 + 11);
            assert!(matches!(Query::read(&reply), Err(Unanswerable::Ignore)));
        }
        Err(Unanswerable::Ignore) => {}
    }
}
