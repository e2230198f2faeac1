//! What stops together stops after those that depend on it, also over nodes.

use limpet_protocol::application::Placement;
use limpet_protocol::spec::{Dependency, DependencyCondition};

use super::*;

/// `db` runs on `a`; `web` runs on `b` and depends on it.
fn pair(stopped: bool) -> Application {
    let on = |node: &str| Placement {
        constraints: vec![Constraint { attribute: Attribute::Id, equal: true, value: node.into() }],
        ..Placement::default()
    };
    let mut db = service("shop", "db", 1);
    db.placement = on("a");
    let mut web = service("shop", "web", 1);
    web.placement = on("b");
    web.spec.depends_on = vec![Dependency {
        service: "db".parse().unwrap(),
        condition: DependencyCondition::ServiceStarted,
        restart: false,
        required: true,
    }];
    let mut services = std::collections::BTreeMap::from([
        ("db".parse().unwrap(), db),
        ("web".parse().unwrap(), web),
    ]);
    services.values_mut().for_each(|service| service.stopped = stopped);
    Application { name: "shop".parse().unwrap(), services }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dependants_stop_first_also_on_another_node() {
    let mut rig = Rig::start(NEVER).await;
    let token = rig.token().await;
    let (mut a, mut b) = (rig.agent(&token, "a").await, rig.agent(&token, "b").await);
    rig.sees("both", |v| v.nodes.iter().filter(|n| n.status == "ready").count() == 2).await;
    let begins = async |rig: &mut Rig| {
        let revision = rig.apply(pair(false)).await;
        rig.settled(revision).await;
    };
    let since = |agent: &FakeAgent| agent.held.borrow().as_ref().unwrap().1;
    begins(&mut rig).await;
    let removed = Op::Delete(Key::Application("shop".parse().unwrap()));
    let stops = [None, Some(removed)];
    for stop in stops {
        let revision = match stop {
            None => rig.apply(pair(true)).await,
            Some(op) => rig.commit(op).await,
        };
        a.holds(|a| a.services.is_empty()).await;
        b.holds(|b| b.services.is_empty()).await;
        assert!(since(&a) > since(&b), "{revision:?}");
        rig.sees("nothing left", |v| v.revision >= revision && v.instances.is_empty()).await;
        begins(&mut rig).await;
    }
    // Nobody waits for who cannot be reached.
    drop(b);
    rig.sees("unreachable", |v| v.nodes.iter().any(|n| n.status == "unreachable")).await;
    rig.commit(Op::Delete(Key::Application("shop".parse().unwrap()))).await;
    a.holds(|a| a.services.is_empty()).await;
    rig.stop().await;
}
