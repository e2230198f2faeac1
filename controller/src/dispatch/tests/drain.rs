//! A drained node gives its instances to another, one at a time, and a job runs to its end.

use limpet_protocol::assignment::UpdateOrder;

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

/// The node that takes a slot is told the new version, the one that gives it keeps what it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_is_updated_where_it_goes() {
    let mut rig = Rig::start(NEVER).await;
    let token = rig.token().await;
    let mut a = rig.agent(&token, "a").await;
    rig.sees("a", |v| v.nodes.iter().any(|n| n.status == "ready")).await;
    let version = |number: &str| {
        let mut application = shop(1);
        for service in application.services.values_mut() {
            let environment = &mut service.spec.process.environment;
            environment.insert("VERSION".to_owned(), number.to_owned());
            service.update.order = UpdateOrder::StartFirst;
            service.update.monitor_ms = 0;
        }
        application
    };
    let revision = rig.apply(version("1")).await;
    rig.settled(revision).await;
    let old = a.holds(|a| !a.services.is_empty()).await.services[0].spec;
    // Nothing comes up on it yet.
    let badge = joined(rig.address, &token, "b").await;
    let mut b = FakeAgent::start_with(rig.address, badge.clone(), 1, Phase::Creating).await;
    rig.sees("both", |v| v.nodes.iter().filter(|n| n.status == "ready").count() == 2).await;
    rig.let_have("a", Availability::Drain).await;
    b.holds(|b| b.services.iter().any(|web| web.spec == old)).await;
    let revision = rig.apply(version("2")).await;
    b.holds(|b| b.services.iter().any(|web| web.spec != old)).await;
    // A change that has the share of `a` made anew.
    rig.let_have("a", Availability::Active).await;
    rig.let_have("a", Availability::Drain).await;
    drop(b);
    let mut b = FakeAgent::start(rig.address, badge, 2).await;
    rig.settled(revision).await;
    a.holds(|a| a.services.is_empty()).await;
    let new = b.holds(|b| b.services.len() == 1).await.services[0].spec;
    let heard = a.heard.lock().unwrap().clone();
    let told = heard.iter().flat_map(|a| &a.services).map(|web| web.spec);
    assert!(told.into_iter().all(|spec| spec == old && spec != new), "{heard:?}");
    rig.stop().await;
}
