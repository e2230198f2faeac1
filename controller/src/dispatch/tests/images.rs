//! A node that cannot have the image of what comes next ends the update, and says why.

use limpet_protocol::report::NoImage;

use super::super::fake_agent::facts;
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_cannot_be_had_ends_the_update_at_once() {
    let mut rig = Rig::start(NEVER).await;
    let token = rig.token().await;
    let mut agent = rig.agent(&token, "pi").await;
    let first = rig.apply(shop(1)).await;
    rig.settled(first).await;
    // It is one that has images ready ahead.
    let mut facts = facts("pi");
    facts.stages = true;
    let presence = NodePresence {
        online: true,
        boot: 1,
        session: 2,
        facts: Some(facts),
        key: None,
        mesh: None,
    };
    let node = agent.badge.node.clone();
    agent.publish(Topic::Up(node.clone()), codec::encode(&presence).unwrap()).await;
    let mut newer = shop(1);
    for web in newer.services.values_mut() {
        web.spec.image.reference = "busybox:2".to_owned();
    }
    rig.apply(newer).await;
    let asked = agent.holds(|a| a.services.iter().any(|web| web.next.is_some())).await;
    let next = asked.services[0].next.unwrap();
    let report = Report {
        boot: 1,
        sequence: 9_000_000,
        observed: Some(asked.generation),
        instances: vec![],
        staged: vec![],
        network: None,
        no_image: vec![NoImage { spec: next, reason: "no such image".into(), tries: 1 }],
        scales: vec![],
    };
    agent.publish(Topic::Have(node), codec::encode(&report).unwrap()).await;
    let paused = |view: &View| {
        let rollout = view.services[0].1.rollout.as_ref();
        rollout.is_some_and(|it| it.state == "paused" && it.summary.contains("no such image"))
    };
    rig.sees("a paused update", paused).await;
    assert_eq!(rig.wait_event("rollout_paused").await, 1);
    rig.stop().await;
}
