//! What comes first: dependencies before dependants, the new version before the old one goes.

use super::*;

#[tokio::test]
async fn a_dependant_waits_until_its_dependency_is_healthy() {
    let mut life = Life::new().await;
    let mut db = life.spec("db", IDLE);
    db.healthcheck = shell("test -e /shared/healthy");
    db.healthcheck.as_mut().unwrap().start_period_ms = Some(60_000);
    db.healthcheck.as_mut().unwrap().start_interval_ms = Some(50);
    let mut web = life.spec("web", IDLE);
    web.depends_on.push(Dependency {
        service: "db".parse().unwrap(),
        condition: DependencyCondition::ServiceHealthy,
        restart: false,
        required: true,
    });
    life.want(&[db, web], UpdateOrder::StopFirst);
    life.while_agent_runs(async {
        life.until("test.db.1.1 runs").await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(life.seen.lock().unwrap().make_contiguous(), [""; 0]);
        std::fs::write(life.shared().join("healthy"), "").unwrap();
        life.until("test.web.1.1 runs").await;
    })
    .await;
    life.end().await;
}

#[tokio::test]
async fn start_first_keeps_the_old_one_until_the_new_one_is_ready() {
    let mut life = Life::new().await;
    let old = life.spec("web", IDLE);
    let get =
        ProbeAction::Http { port: 8080, path: "/health".to_owned(), headers: Default::default() };
    let mut new = server(&life, "web");
    new.probes.startup = probe(ProbeAction::Tcp { port: 8080 });
    new.probes.startup.as_mut().unwrap().failure_threshold = 100;
    new.probes.ready = probe(get);
    life.want(std::slice::from_ref(&old), UpdateOrder::StartFirst);
    life.while_agent_runs(life.until("test.web.1.1 runs")).await;
    // The new assignment is there when the agent comes back; the old container is adopted.
    life.want(&[new], UpdateOrder::StartFirst);
    life.while_agent_runs(async {
        life.until("test.web.1.2 runs").await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(life.seen.lock().unwrap().make_contiguous(), [""; 0], "two live in one slot");
        std::fs::write(life.shared().join("ready"), "").unwrap();
        let seen = life.until("test.web.1.1 ended").await;
        assert_eq!(seen, ["stop test.web.1.1", "test.web.1.1 ended"]);
    })
    .await;
    // Back to the old version: the new one goes only when the old one runs again.
    life.want(&[old], UpdateOrder::StartFirst);
    let seen = life.while_agent_runs(life.until("test.web.1.2 ended")).await;
    assert_eq!(
        seen,
        ["start test.web.1.3", "test.web.1.3 runs", "stop test.web.1.2", "test.web.1.2 ended"]
    );
    life.end().await;
}
