//! Lifecycle hooks, run by the real agent in real containers.

use super::*;

/// A line of shell that is run as the container is.
fn hook(line: &str) -> Hook {
    Hook::plain(["/bin/sh", "-c", line].map(str::to_owned).to_vec())
}

fn log(life: &Life) -> String {
    std::fs::read_to_string(life.shared().join("log")).unwrap_or_default()
}

/// Waits until the hooks and containers have written so many lines.
async fn lines(life: &Life, count: usize) -> String {
    while log(life).lines().count() < count {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    log(life)
}

#[tokio::test]
async fn hooks_run_once_and_in_their_order() {
    let mut life = Life::new().await;
    let said = "trap 'echo told to stop >> /shared/log; exit 0' TERM; while :; do sleep 0.05; done";
    let mut web = life.spec("web", said);
    web.stop.grace_period_ms = 10_000;
    let as_other = Hook {
        user: Some("web".to_owned()),
        working_dir: Some("/tmp".to_owned()),
        environment: [("WORD".to_owned(), "second".to_owned())].into(),
        ..hook("echo $WORD in $(pwd) as $(id -u) >> /shared/log")
    };
    web.hooks.post_start =
        vec![hook("sleep 0.1; echo first >> /shared/log; chmod 666 /shared/log"), as_other];
    web.hooks.pre_stop = vec![hook("sleep 0.1; echo leaves >> /shared/log")];
    web.healthcheck = shell("test ! -e /shared/sick && touch /shared/well");
    life.want(&[web], UpdateOrder::StopFirst);
    let well = life.shared().join("well");
    let begun = life.while_agent_runs(async {
        let begun = lines(&life, 2).await;
        // A check that comes later: by then the agent knows that the hook ended.
        std::fs::remove_file(&well).ok();
        while !well.exists() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        begun
    });
    let begun = begun.await;
    assert_eq!(begun, "first\nsecond in /tmp as 33\n");
    // The container goes on; the next agent knows what was done for it.
    life.seen.lock().unwrap().clear();
    std::fs::remove_file(&well).ok();
    let ended = life.while_agent_runs(async {
        while !well.exists() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        std::fs::write(life.shared().join("sick"), "").unwrap();
        life.until("test.web.1.1 ended").await
    });
    assert_eq!(ended.await, ["stop test.web.1.1", "test.web.1.1 ended"]);
    let whole = log(&life);
    assert!(whole.starts_with(&format!("{begun}leaves\ntold to stop\n")), "{whole}");
    life.end().await;
}

#[tokio::test]
async fn a_hook_that_fails_after_the_start_has_the_container_replaced() {
    let mut life = Life::new().await;
    let mut web = life.spec("web", IDLE);
    web.hooks.post_start = vec![
        hook("test -e /shared/tried || { touch /shared/tried; echo not yet; exit 3; }"),
        hook("echo done >> /shared/log"),
    ];
    life.want(&[web], UpdateOrder::StopFirst);
    life.while_agent_runs(async {
        life.until("test.web.1.1 ended").await;
        assert_eq!(log(&life), "", "nothing comes after the one that failed");
        life.until("test.web.1.2 runs").await;
        lines(&life, 1).await;
    })
    .await;
    life.end().await;
}

#[tokio::test]
async fn a_hook_that_hangs_before_the_stop_has_the_grace_period_and_no_more() {
    let mut life = Life::new().await;
    let mut web = life.spec("web", IDLE);
    web.stop.grace_period_ms = 300;
    web.hooks.pre_stop = vec![
        hook("trap '' TERM INT; while :; do sleep 1; done"),
        hook("echo further >> /shared/log"),
    ];
    web.probes.live = probe(ProbeAction::Command(vec!["false".to_owned()]));
    life.want(&[web], UpdateOrder::StopFirst);
    let seen = life
        .while_agent_runs(async {
            life.until("test.web.1.1 runs").await;
            life.until("test.web.1.1 ended").await
        })
        .await;
    assert_eq!(seen, ["kill a check", "stop test.web.1.1", "test.web.1.1 ended"]);
    assert_eq!(log(&life), "");
    life.end().await;
}
