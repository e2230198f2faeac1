//! Stories of peers that are sought.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use super::message::KernelPeer;
use super::seek::Seeker;
use crate::tunnel::{PublicKey, TunnelPeer};

const KEY: PublicKey = PublicKey([1; 32]);
const NOW: Duration = Duration::from_secs(1000);

fn place(number: u8) -> SocketAddr {
    ([198, 18, 0, number], 51_820).into()
}

fn peer(places: &[u8]) -> TunnelPeer {
    let endpoints = places.iter().map(|number| place(*number)).collect();
    TunnelPeer { key: KEY, endpoints, allowed: vec![], keepalive: None }
}

/// The peer as the kernel has it: where, and how long ago the last handshake was.
fn kernel(at: Option<u8>, ago_seconds: Option<u64>) -> HashMap<PublicKey, KernelPeer> {
    let peer = KernelPeer {
        key: KEY,
        endpoint: at.map(place),
        keepalive_seconds: 0,
        last_handshake: ago_seconds.map_or(Duration::ZERO, |ago| NOW - Duration::from_secs(ago)),
        received: 0,
        sent: 0,
        allowed: BTreeSet::new(),
    };
    [(KEY, peer)].into()
}

#[test]
fn places_are_tried_in_turn_until_the_peer_answers() {
    let mut seeker = Seeker::default();
    assert!(!seeker.has_choice());
    assert_eq!(seeker.set(&[peer(&[1, 2, 3])], &HashMap::new()), [(KEY, place(1))]);
    assert!(seeker.has_choice());
    for turn in [2, 3, 1, 2] {
        assert_eq!(seeker.next(&kernel(Some(1), None), NOW), [(KEY, place(turn))]);
    }
    assert_eq!(seeker.next(&kernel(Some(2), Some(3)), NOW), []);
    // Where it was heard counts, not where it was sought; after three minutes it is sought again.
    assert_eq!(seeker.set(&[peer(&[1, 2, 3])], &kernel(Some(9), Some(10))), []);
    assert_eq!(seeker.next(&kernel(Some(9), Some(180)), NOW), []);
    assert_eq!(seeker.next(&kernel(Some(9), Some(181)), NOW), [(KEY, place(3))]);
}

#[test]
fn one_place_leaves_no_choice_and_another_is_told_at_once() {
    let mut seeker = Seeker::default();
    assert_eq!(seeker.set(&[peer(&[1])], &HashMap::new()), [(KEY, place(1))]);
    assert!(!seeker.has_choice());
    assert_eq!(seeker.next(&kernel(Some(1), None), NOW), []);
    assert_eq!(seeker.set(&[peer(&[2])], &kernel(Some(1), None)), [(KEY, place(2))]);
    assert_eq!(seeker.set(&[peer(&[2])], &kernel(Some(2), None)), []);
    assert_eq!(seeker.set(&[peer(&[])], &kernel(None, None)), [], "it calls us");
    assert_eq!(seeker.set(&[], &kernel(None, None)), []);
}
