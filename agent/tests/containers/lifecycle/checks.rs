//! Health checks and probes, made by the real agent in real containers.

use super::*;

/// Makes the one container sick once it has begun; its successor is not.
async fn is_replaced_when_sick(life: &mut Life, mut web: Spec) {
    let script = format!("busybox rm -f /shared/sick; touch /shared/begun; {IDLE}");
    web.process.command = Some(["/bin/sh", "-c", &script].map(str::to_owned).into());
    life.want(&[web], UpdateOrder::StopFirst);
    let life = &*life;
    let seen = life
        .while_agent_runs(async {
            life.until("test.web.1.1 runs").await;
            while !life.shared().join("begun").exists() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            std::fs::write(life.shared().join("sick"), "").unwrap();
            let seen = life.until("test.web.1.2 runs").await;
            // It stays: several checks have passed.
            tokio::time::sleep(Duration::from_millis(600)).await;
            assert_eq!(life.seen.lock().unwrap().make_contiguous(), [""; 0]);
            seen
        })
        .await;
    assert_eq!(
        seen,
        ["stop test.web.1.1", "test.web.1.1 ended", "start test.web.1.2", "test.web.1.2 runs"]
    );
}

#[tokio::test]
async fn an_unhealthy_container_is_replaced() {
    let mut life = Life::new().await;
    let mut web = life.spec("web", IDLE);
    web.healthcheck = shell("test ! -e /shared/sick || { echo it is sick; exit 3; }");
    is_replaced_when_sick(&mut life, web).await;
    life.end().await;
}

#[tokio::test]
async fn the_image_s_own_check_counts() {
    let mut life = Life::new().await;
    let check = ImageCheck {
        command: ["test", "!", "-e", "/shared/sick"].map(str::to_owned).to_vec(),
        interval_ms: Some(100),
        retries: Some(2),
        ..ImageCheck::default()
    };
    let image = PreparedImage { check: Some(Arc::new(check)), ..(*life.node.image).clone() };
    life.node.image = Arc::new(image);
    let web = life.spec("web", IDLE);
    is_replaced_when_sick(&mut life, web).await;
    life.end().await;
}

#[tokio::test]
async fn a_hanging_check_is_killed_and_stalls_nobody() {
    let mut life = Life::new().await;
    let mut web = life.spec("web", IDLE);
    web.healthcheck = shell("trap '' TERM INT; echo stuck; while :; do sleep 1; done");
    web.healthcheck.as_mut().unwrap().timeout_ms = Some(300);
    let mut db = life.spec("db", IDLE);
    db.healthcheck = shell("touch /shared/db-was-checked");
    life.want(&[db, web], UpdateOrder::StopFirst);
    life.while_agent_runs(async {
        let seen = life.until("stop test.web.1.1").await;
        assert_eq!(seen.iter().filter(|it| *it == "kill a check").count(), 2, "{seen:?}");
        assert!(life.shared().join("db-was-checked").exists());
        life.until("test.web.1.2 runs").await;
    })
    .await;
    life.end().await;
}

/// Its first process never reaps, so that in the end not even a check fits in: it is replaced.
#[tokio::test]
async fn a_container_full_of_zombies_is_unhealthy() {
    let mut life = Life::new().await;
    let zombies = "(while :; do (true &); sleep 0.01; done) & exec sleep 1000";
    let mut web = life.spec("web", zombies);
    web.resources.pids_limit = Some(20);
    web.healthcheck = shell("true");
    life.want(&[web], UpdateOrder::StopFirst);
    life.while_agent_runs(life.until("test.web.1.2 runs")).await;
    life.end().await;
}

#[tokio::test]
async fn a_check_that_floods_is_read_to_its_end() {
    let mut life = Life::new().await;
    let mut web = life.spec("web", IDLE);
    web.healthcheck = shell("yes flood | head -c 1000000; touch /shared/read-to-the-end");
    life.want(&[web], UpdateOrder::StopFirst);
    life.while_agent_runs(async {
        life.until("test.web.1.1 runs").await;
        let done = life.shared().join("read-to-the-end");
        while !done.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    life.end().await;
}

#[tokio::test]
async fn probes_are_made_in_the_network_of_the_container() {
    let mut life = Life::new().await;
    let get =
        ProbeAction::Http { port: 8080, path: "/health".to_owned(), headers: Default::default() };
    let mut db = server(&life, "db");
    db.probes.startup = probe(ProbeAction::Tcp { port: 8080 });
    db.probes.startup.as_mut().unwrap().failure_threshold = 100;
    db.probes.ready = probe(get);
    let mut web = life.spec("web", IDLE);
    web.depends_on.push(Dependency {
        service: "db".parse().unwrap(),
        condition: DependencyCondition::ServiceHealthy,
        restart: false,
        required: true,
    });
    // Nobody listens there in this one: it is never ready, and another's server does not help it.
    let mut alone = life.spec("alone", IDLE);
    alone.probes.live = probe(ProbeAction::Tcp { port: 8080 });
    life.want(&[alone, db, web], UpdateOrder::StopFirst);
    life.while_agent_runs(async {
        let seen = life.until("stop test.alone.1.1").await;
        assert!(seen.contains(&"test.db.1.1 runs".to_owned()), "{seen:?}");
        assert!(!seen.contains(&"start test.web.1.1".to_owned()), "{seen:?}");
        std::fs::write(life.shared().join("ready"), "").unwrap();
        life.until("test.web.1.1 runs").await;
    })
    .await;
    life.end().await;
}
