//! A drained node gives its instances to another, one at a time, and a job runs to its end.

use super::*;
use crate::store::records::{Availability, NodeRecord};

impl Rig {
    /// As `limpet node drain` does.
    async fn let_have(&self, node: &str, availability: Availability) -> Revision {
        let key = Key::Node(node.parse().unwrap());
        let entry = self.store.get(&key).unwrap().unwrap();
        let record: NodeRecord = codec::decode(&entry.value).unwrap();
        let record = NodeRecord { availability, ..record };
        self.commit(Op::Put(key, codec::encode(&record).unwrap())).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_node_gives_one_instance_after_the_other() {
    let mut rig = Rig::start(NEVER).await;
    let token = rig.token().await;
    let mut a = rig.agent(&token, "a").await;
    rig.sees("a", |v| v.nodes.iter().any(|n| n.status == "ready")).await;
    let revision = rig.apply(shop(3)).await;
    rig.settled(revision).await;
    let mut b = rig.agent(&token, "b").await;
    rig.sees("both", |v| v.nodes.iter().filter(|n| n.status == "ready").count() == 2).await;
    let revision = rig.let_have("a", Availability::Drain).await;
    let taken = b.holds(|b| b.services.first().is_some_and(|web| web.slots.len() == 3)).await;
    assert_eq!(taken.services[0].slots, [Slot(1), Slot(2), Slot(3)]);
    a.holds(|a| a.services.is_empty()).await;
    let view = rig.settled(revision).await;
    assert!(view.instances.iter().all(|i| i.node.as_deref() == Some("b")), "{view:?}");
    // One at a time: `b` was told of each slot by itself, and only when `a` had let it go.
    let counts: Vec<usize> = {
        let heard = b.heard.lock().unwrap();
        heard.iter().map(|b| b.services.first().map_or(0, |web| web.slots.len())).collect()
    };
    assert!(counts.windows(2).all(|two| two[1] <= two[0] + 1), "{counts:?}");
    let told: Vec<usize> = {
        let heard = a.heard.lock().unwrap();
        heard.iter().map(|a| a.services.first().map_or(0, |web| web.slots.len())).collect()
    };
    assert!(told.windows(2).all(|two| two[0] <= two[1] + 1 || two[1] == 3), "{told:?}");
    rig.stop().await;
}
