//! What was heard of peers, and for how long it counts. Deciding code: the time is a value.

use std::collections::BTreeMap;
use std::time::Duration;

use limpet_protocol::id::NodeId;
use limpet_protocol::network::Neighbour;
use tokio::time::Instant;

use super::{MISSED, Told};

/// Beside the signs of life that may be missing: for a machine that is busy.
const SLACK: Duration = Duration::from_millis(500);
/// What a peer may promise at the least and at the most. One that promises nothing for a day is not believed
/// to be there for a day.
const MIN_WITHIN: Duration = Duration::from_millis(100);
const MAX_WITHIN: Duration = Duration::from_secs(60);

/// Peers that were heard.
#[derive(Debug, Default)]
pub(super) struct Heard(BTreeMap<NodeId, Peer>);

#[derive(Debug)]
struct Peer {
    /// As it said it.
    said: Neighbour,
    /// As it was passed on.
    believed: Neighbour,
    until: Instant,
}

impl Heard {
    /// A peer said something, or gave a sign of life. Whether there is something to pass on.
    pub(super) fn hear(
        &mut self,
        node: &NodeId,
        (said, within): (Option<Neighbour>, Duration),
        now: Instant,
        believe: impl FnOnce(&Neighbour) -> Neighbour,
    ) -> Option<Told> {
        let until = now + within.clamp(MIN_WITHIN, MAX_WITHIN) * MISSED + SLACK;
        let known = self.0.get_mut(node);
        let Some(said) = said else {
            // A sign of life of one that has said nothing yet tells nothing.
            if let Some(peer) = known {
                peer.until = until;
            }
            return None;
        };
        let believed = believe(&said);
        let news = known.is_none_or(|peer| peer.believed != believed);
        let told = news.then(|| (node.clone(), Some(believed.clone())));
        self.0.insert(node.clone(), Peer { said, believed, until });
        told
    }

    /// Whether a peer has said anything that counts still.
    pub(super) fn knows(&self, node: &NodeId) -> bool {
        self.0.contains_key(node)
    }

    /// What is believed may have changed: other networks, other subnets, fewer peers.
    pub(super) fn believe_again(
        &mut self,
        believe: impl Fn(&NodeId, &Neighbour) -> Option<Neighbour>,
    ) -> Vec<Told> {
        let mut told = vec![];
        self.0.retain(|node, peer| {
            let believed = believe(node, &peer.said);
            if believed.as_ref() != Some(&peer.believed) {
                told.push((node.clone(), believed.clone()));
            }
            let stays = believed.is_some();
            peer.believed = believed.unwrap_or_else(|| Neighbour { instances: vec![] });
            stays
        });
        told
    }

    /// Who has been silent for too long is gone.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Told> {
        let mut told = vec![];
        self.0.retain(|node, peer| {
            let stays = now < peer.until;
            if !stays {
                told.push((node.clone(), None));
            }
            stays
        });
        told
    }

    /// When the next is gone, unless it is heard before.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.0.values().map(|peer| peer.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use limpet_protocol::network::NeighbourInstance;

    fn running(slot: u32) -> Neighbour {
        let instance = NeighbourInstance {
            instance: format!("shop.web.{slot}").parse().unwrap(),
            attempt: 1,
            addresses: vec![],
            networks: vec![],
            hostname: None,
            ready: true,
        };
        Neighbour { instances: vec![instance] }
    }

    #[test]
    fn what_is_said_counts_while_there_are_signs_of_life() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let node: NodeId = "n2".parse().unwrap();
        let second = Duration::from_secs(1);
        let mut heard = Heard::default();
        let hear = |heard: &mut Heard, said: Option<u32>, now| {
            heard.hear(&node, (said.map(running), second), now, Neighbour::clone)
        };
        assert_eq!(hear(&mut heard, None, at(0)), None);
        assert_eq!(heard.next_end(), None, "nothing was said yet");
        assert!(!heard.knows(&node));
        assert_eq!(hear(&mut heard, Some(1), at(0)), Some((node.clone(), Some(running(1)))));
        assert_eq!(heard.next_end(), Some(at(3500)));
        assert_eq!(hear(&mut heard, Some(1), at(100)), None, "no news");
        assert_eq!(hear(&mut heard, None, at(3000)), None);
        assert_eq!(heard.expire(at(6499)), []);
        assert_eq!(hear(&mut heard, Some(2), at(6499)), Some((node.clone(), Some(running(2)))));
        assert!(heard.knows(&node));
        assert_eq!(heard.expire(at(9999)), [(node.clone(), None)]);
        assert!(!heard.knows(&node));
        assert_eq!(heard.expire(at(20_000)), [], "once");
        assert_eq!(hear(&mut heard, Some(2), at(30_000)), Some((node.clone(), Some(running(2)))));
    }

    #[test]
    fn promises_are_believed_within_bounds() {
        let now = Instant::now();
        for (within, expected_ms) in [
            (Duration::ZERO, 800),
            (Duration::from_secs(10), 30_500),
            (Duration::from_hours(24), 180_500),
        ] {
            let mut heard = Heard::default();
            heard.hear(&"n2".parse().unwrap(), (Some(running(1)), within), now, Neighbour::clone);
            let expected = now + Duration::from_millis(expected_ms);
            assert_eq!(heard.next_end(), Some(expected));
        }
    }

    #[test]
    fn what_is_believed_is_asked_again_when_the_view_changes() {
        let node: NodeId = "n2".parse().unwrap();
        let now = Instant::now();
        let nothing = || Neighbour { instances: vec![] };
        let mut heard = Heard::default();
        let said = (Some(running(1)), Duration::from_secs(1));
        assert_eq!(
            heard.hear(&node, said, now, |_| nothing()),
            Some((node.clone(), Some(nothing())))
        );
        let all = |_: &NodeId, said: &Neighbour| Some(said.clone());
        assert_eq!(heard.believe_again(all), [(node.clone(), Some(running(1)))]);
        assert_eq!(heard.believe_again(all), []);
        assert_eq!(heard.believe_again(|_, _| None), [(node, None)], "no peer any more");
        assert_eq!(heard.next_end(), None);
    }
}
