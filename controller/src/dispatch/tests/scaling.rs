//! Services that follow their load: what nodes are told, and what is shown of it.

use limpet_protocol::scale::{Pace, Per, ScalePolicy};

use super::*;

/// Changes nothing as long as a test takes, or everything at once.
const AT_ONCE: Pace = Pace {
    window_ms: 0,
    instances: None,
    percent: None,
    every_ms: 0,
    select: limpet_protocol::scale::Select::Max,
};

fn scaled(per: Per, (min, max): (u32, u32)) -> Application {
    let mut web = service("shop", "web", 1);
    web.spec.resources.cpu_limit_millis = Some(500);
    web.autoscale = Some(ScalePolicy {
        per,
        cpu_percent: Some(50),
        up: AT_ONCE,
        down: AT_ONCE,
        ..ScalePolicy::between(min, max)
    });
    let services = [("web".parse().unwrap(), web)].into();
    Application { name: "shop".parse().unwrap(), services }
}

/// `least/slots+elsewhere` of the only service.
fn bounds(assignment: &limpet_protocol::assignment::Assignment) -> String {
    let Some(share) = assignment.services.first() else { return "-".to_owned() };
    let Some(scale) = &share.scale else { return "fixed".to_owned() };
    assert_eq!(usize::try_from(scale.most).unwrap(), share.slots.len());
    format!("{}/{}+{}", scale.least, scale.most, scale.elsewhere)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_needs_more_than_it_has_gets_it_from_others_and_gives_it_back() {
    let mut rig = Rig::start(NEVER).await;
    let token = rig.token().await;
    let mut a = rig.agent(&token, "a").await;
    let mut b = rig.agent(&token, "b").await;
    rig.sees("both", |v| v.nodes.iter().filter(|n| n.status == "ready").count() == 2).await;
    let revision = rig.apply(scaled(Per::Application, (1, 4))).await;
    let has =
        |text: &'static str| move |it: &limpet_protocol::assignment::Assignment| bounds(it) == text;
    // All places are there at once, and one of them is used.
    a.holds(has("1/2+0")).await;
    b.holds(has("0/2+1")).await;
    let view = rig.settled(revision).await;
    let service = |v: &View| v.services[0].1.clone();
    assert_eq!((service(&view).wanted, service(&view).ready), (1, 1));
    let idle = view.instances.iter().filter(|i| i.phase == "idle").count();
    assert_eq!(idle, 3);

    // What it can do itself it does; the other is told where the instances are.
    a.wish(2).await;
    a.holds(has("2/2+0")).await;
    b.holds(has("0/2+2")).await;
    a.wish(4).await;
    b.holds(has("2/2+2")).await;
    let view = rig.sees("four", |v| service(v).ready == 4).await;
    let scale = service(&view).scale.clone().unwrap();
    assert_eq!((scale.total, scale.per.as_str(), scale.nodes.len()), (Some(4), "application", 2));
    assert_eq!((scale.nodes[0].wish, scale.nodes[0].running), (4, 2));

    a.wish(1).await;
    a.holds(has("1/2+0")).await;
    b.holds(has("0/2+1")).await;
    rig.sees("one", |v| service(v).ready == 1 && service(v).settled).await;

    // A controller that starts again asks nobody to stop what is needed.
    a.wish(4).await;
    b.holds(has("2/2+2")).await;
    rig = rig.restart(NEVER).await;
    let total = |v: &View| v.services.first().and_then(|(_, s)| s.scale.as_ref()?.total);
    rig.sees("four", |v| total(v) == Some(4)).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_wished_for_goes_with_it() {
    let mut rig = Rig::start(Duration::from_millis(300)).await;
    let token = rig.token().await;
    let a = rig.agent(&token, "a").await;
    let mut b = rig.agent(&token, "b").await;
    rig.sees("both", |v| v.nodes.iter().filter(|n| n.status == "ready").count() == 2).await;
    rig.apply(scaled(Per::Application, (1, 4))).await;
    b.holds(|it| bounds(it) == "0/2+1").await;
    a.wish(4).await;
    b.holds(|it| bounds(it) == "2/2+2").await;
    drop(a);
    b.holds(|it| bounds(it) == "1/4+0").await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_adds_by_itself_is_shown_with_the_service() {
    let mut rig = Rig::start(NEVER).await;
    let token = rig.token().await;
    let mut a = rig.agent(&token, "a").await;
    let revision = rig.apply(scaled(Per::Node, (1, 3))).await;
    let told = a.holds(|it| it.services.first().is_some_and(|it| it.scale.is_some())).await;
    let scale = told.services[0].scale.clone().unwrap();
    assert_eq!((scale.least, scale.most, told.services[0].slots.len()), (1, 3, 1));
    rig.settled(revision).await;
    a.wish(3).await;
    let view = rig.sees("three", |v| v.services[0].1.ready == 3).await;
    let slots: Vec<u32> = view.instances.iter().map(|i| i.slot).collect();
    assert_eq!(slots, [1, 1001, 1002]);
    assert!(view.services[0].1.settled && view.instances.iter().all(|i| i.current));
    a.wish(1).await;
    rig.sees("one", |v| v.instances.len() == 1).await;
    rig.stop().await;
}
