//! Dependencies over nodes, and what is done for good, told to nodes and kept.

use limpet_protocol::application::Placement;
use limpet_protocol::id::SpecHash;
use limpet_protocol::report::{Exit, InstanceStatus};
use limpet_protocol::spec::{Dependency, DependencyCondition, RestartCondition};

use super::*;

/// `once` runs on `a` and ends; `web` runs on `b` and waits for it.
fn pair() -> Application {
    let on = |node: &str| Placement {
        constraints: vec![Constraint { attribute: Attribute::Id, equal: true, value: node.into() }],
        ..Placement::default()
    };
    let mut once = service("shop", "once", 1);
    once.placement = on("a");
    once.spec.restart.condition = RestartCondition::None;
    let mut web = service("shop", "web", 1);
    web.placement = on("b");
    web.spec.depends_on = vec![Dependency {
        service: "once".parse().unwrap(),
        condition: DependencyCondition::ServiceCompletedSuccessfully,
        restart: false,
        required: true,
    }];
    let services = [("once".parse().unwrap(), once), ("web".parse().unwrap(), web)].into();
    Application { name: "shop".parse().unwrap(), services }
}

/// What the agent of `a` says when `once` has ended.
fn completed(generation: Generation, spec: SpecHash) -> Vec<u8> {
    let instance = limpet_protocol::id::InstanceId {
        application: "shop".parse().unwrap(),
        service: "once".parse().unwrap(),
        slot: Slot(1),
    };
    let status = InstanceStatus {
        instance,
        attempt: 1,
        spec,
        phase: Phase::Completed,
        reason: None,
        last_exit: Some(Exit { code: Some(0), out_of_memory: false }),
        since_ms: 0,
        health: None,
        ready: None,
        failures: 0,
    };
    let observed = Some(generation);
    let report = Report {
        boot: 9,
        sequence: 1_000,
        observed,
        instances: vec![status],
        staged: vec![],
        network: None,
        no_image: vec![],
        scales: vec![],
    };
    codec::encode(&report).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dependency_on_another_node_is_met_once_and_what_is_done_stays_done() {
    let mut rig = Rig::start(NEVER).await;
    let token = rig.token().await;
    let (mut a, mut b) = (rig.agent(&token, "a").await, rig.agent(&token, "b").await);
    rig.sees("both", |v| v.nodes.iter().filter(|n| n.status == "ready").count() == 2).await;
    rig.apply(pair()).await;
    let first = a.holds(|a| !a.services.is_empty()).await;
    let waits = b.holds(|a| !a.services.is_empty()).await;
    assert_eq!((&waits.services[0].met, &first.services[0].done), (&Some(vec![]), &vec![]));
    assert_eq!(first.services[0].met, None, "it depends on nothing");
    let report = completed(first.generation, first.services[0].spec);
    a.publish(Topic::Have("a".parse().unwrap()), report).await;
    let once = Some(vec!["once".parse().unwrap()]);
    b.holds(|a| a.services[0].met == once).await;
    let done = a.holds(|a| !a.services[0].done.is_empty()).await;
    assert_eq!(done.services[0].done, [Slot(1)]);
    // Another controller in the same place knows it without hearing it again.
    let kept = rig.store.list(Kind::Assignment).unwrap().1;
    assert_eq!(rig.store.list(Kind::Progress).unwrap().1.len(), 1);
    let badge = b.badge.clone();
    drop((a, b));
    let mut rig = rig.restart(NEVER).await;
    let mut b = FakeAgent::start(rig.address, badge, 2).await;
    rig.sees("b", |v| v.nodes.iter().any(|n| n.status == "ready")).await;
    b.holds(|a| a.services[0].met == once).await;
    assert_eq!(rig.store.list(Kind::Assignment).unwrap().1, kept);
    // With the application goes what was kept of it.
    rig.commit(Op::Delete(Key::Application("shop".parse().unwrap()))).await;
    b.holds(|a| a.services.is_empty()).await;
    assert_eq!(rig.store.list(Kind::Progress).unwrap().1, []);
    rig.stop().await;
}
