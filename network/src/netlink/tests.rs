//! What is written is what is read, and lengths are not believed.

use super::reading::messages;
use super::*;

#[test]
fn a_message_begins_with_its_length_and_attributes_at_multiples_of_four() {
    let mut batch = Batch::default();
    batch.add("say something", (0x1234, 0x5), &[7; 4], |message| {
        message.text(1, "ab").nested(2, |inner| {
            inner.big(3, 0x0102_0304).bytes(4, &[9]);
        });
    });
    batch.add("say nothing", (1, 0), &[], |_| {});
    let bytes = batch.bytes();
    let wanted: &[&[u8]] = &[
        &48_u32.to_ne_bytes(),
        &0x1234_u16.to_ne_bytes(),
        &5_u16.to_ne_bytes(),
        &[0; 8],
        &[7; 4],
        &7_u16.to_ne_bytes(),
        &1_u16.to_ne_bytes(),
        b"ab\0\0",
        &20_u16.to_ne_bytes(),
        &0x8002_u16.to_ne_bytes(),
        &8_u16.to_ne_bytes(),
        &3_u16.to_ne_bytes(),
        &[1, 2, 3, 4],
        &5_u16.to_ne_bytes(),
        &4_u16.to_ne_bytes(),
        &[9, 0, 0, 0],
    ];
    assert_eq!(&bytes[..48], wanted.concat());
    assert_eq!(bytes.len(), 64);
    let read: Vec<_> = messages(bytes).collect();
    assert_eq!((read[0].kind, read[0].flags, read[0].sequence), (0x1234, 5, 0));
    assert_eq!((read[1].kind, read[1].sequence, read[1].body.len()), (1, 1, 0));
    let found: Vec<_> = attributes(&read[0].body[4..]).collect();
    assert_eq!(found[0].text(), Some("ab"));
    assert_eq!(attributes(found[1].value).map(|a| a.kind).collect::<Vec<_>>(), [3, 4]);
}

#[test]
fn an_attribute_that_is_too_long_is_refused_before_it_is_sent() {
    let mut batch = Batch::default();
    batch.add("begin", (1, 0), &[], |_| {});
    batch.add("say too much", (1, 0), &[], |message| {
        message.nested(1, |inner| {
            inner.bytes(1, &vec![0; 70_000]);
        });
    });
    let socket = Socket::open(netlink_sys::protocols::NETLINK_ROUTE).unwrap();
    assert_eq!(socket.perform(&batch).unwrap_err().to_string(), "say too much");
}

#[test]
fn what_is_cut_off_or_lies_about_its_length_is_not_read() {
    let mut batch = Batch::default();
    batch.add("say something", (1, 0), &[], |message| {
        message.text(1, "abc").text(2, "def");
    });
    let bytes = batch.bytes();
    for end in 0..bytes.len() {
        assert_eq!(messages(&bytes[..end]).count(), 0);
        let body = bytes.get(16..end).unwrap_or_default();
        assert!(attributes(body).count() <= 1);
    }
    for length in [0_u32, 3, 15, 1_000, u32::MAX] {
        let mut lying = bytes.to_vec();
        lying[..4].copy_from_slice(&length.to_ne_bytes());
        assert_eq!(messages(&lying).count(), 0, "{length}");
    }
}
