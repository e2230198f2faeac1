//! Updates over a real store and a real broker: one slot after the other, and over a restart of
//! the controller.

use crate::rollout::Order;

use super::*;

/// Three instances, updated with a pause of a minute in between, watched for no time.
fn version(number: &str) -> Application {
    let mut application = shop(3);
    for service in application.services.values_mut() {
        let environment = &mut service.spec.process.environment;
        environment.insert("VERSION".to_owned(), number.to_owned());
        (service.update.delay_ms, service.update.monitor_ms) = (60_000, 0);
    }
    application
}

fn state(view: &View) -> Option<&str> {
    view.services[0].1.rollout.as_ref().map(|rollout| rollout.state.as_str())
}

/// How many slots an assignment has of each spec, the fewest first.
fn slots(assignment: &limpet_protocol::assignment::Assignment) -> Vec<usize> {
    let mut counts: Vec<usize> = assignment.services.iter().map(|s| s.slots.len()).collect();
    counts.sort_unstable();
    counts
}

async fn order(rig: &Rig, order: Order) -> Result<Vec<String>, String> {
    let (answer, answered) = oneshot::channel();
    let application = "shop".parse().unwrap();
    let request = Request::Rollout { application, service: None, order, answer };
    rig.handle.requests.send(request).await.unwrap();
    tokio::time::timeout(PATIENCE, answered).await.unwrap().unwrap()
}

#[tokio::test]
async fn an_update_goes_slot_by_slot_and_survives_a_restart_of_the_controller() {
    let mut rig = Rig::start(NEVER).await;
    let token = rig.token().await;
    let mut agent = rig.agent(&token, "pi").await;
    let first = rig.apply(version("1")).await;
    rig.settled(first).await;
    rig.apply(version("2")).await;
    rig.sees("one of three", |view| {
        view.services[0].1.rollout.as_ref().is_some_and(|it| (it.updated, it.total) == (1, 3))
    })
    .await;
    assert_eq!(slots(&agent.holds(|a| a.services.len() == 2).await), [1, 2]);
    let view = rig.handle.view.borrow().clone();
    assert!(!view.services[0].1.settled && view.services[0].1.running == 3);
    assert_eq!(order(&rig, Order::Pause).await, Ok(vec!["web".to_owned()]));
    assert!(order(&rig, Order::Pause).await.unwrap_err().contains("paused already"));

    let badge = agent.badge.clone();
    drop(agent);
    let mut rig = rig.restart(NEVER).await;
    let mut agent = FakeAgent::start(rig.address, badge, 2).await;
    rig.sees("it is paused still", |view| {
        view.services.first().is_some_and(|_| state(view) == Some("paused"))
    })
    .await;
    assert_eq!(rig.store.list(Kind::Spec).unwrap().1.len(), 2, "both specs are kept");
    order(&rig, Order::Resume).await.unwrap();
    // Another target supersedes, with other rules; it leaves nothing behind.
    let mut last = version("3");
    last.services.values_mut().for_each(|service| service.update.delay_ms = 0);
    let revision = rig.apply(last).await;
    rig.settled(revision).await;
    assert_eq!(slots(&agent.holds(|a| a.services.len() == 1).await), [3]);
    rig.sees("it is at rest", |view| state(view).is_none()).await;
    while rig.store.list(Kind::Spec).unwrap().1.len() > 1 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(rig.store.list(Kind::Rollout).unwrap().1, []);
    rig.stop().await;
}
