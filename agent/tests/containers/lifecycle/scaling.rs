//! Numbers of instances that follow their load, decided by the real agent on real containers, without any
//! controller.

use limpet_protocol::scale::{MetricSource, MetricTarget, Pace, ScalePolicy, Scaling, Target};

use super::*;

/// Uses its processor as long as there is a file, and waits otherwise.
const BUSY: &str = "trap 'exit 0' TERM; while :; do if [ -e /shared/busy ]; then \
                    i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done; else sleep 0.3; fi; done";

fn scaling(policy: ScalePolicy) -> Option<Scaling> {
    let (least, most) = (policy.min, policy.max);
    Some(Scaling { least, most, elsewhere: 0, priority: 0, policy })
}

/// Comes down a second after it is enough.
fn policy(max: u32) -> ScalePolicy {
    let down = Pace { window_ms: 1_000, ..Pace::down() };
    ScalePolicy { down, ..ScalePolicy::between(1, max) }
}

/// A service that is at its target with little: also on a busy machine it gets far more.
fn busy(life: &Life) -> Spec {
    let mut web = life.spec("web", BUSY);
    web.resources.cpu_reservation_millis = Some(50);
    web.resources.cpu_limit_millis = Some(200);
    web
}

fn events(slots: &[u32], what: &str) -> Vec<String> {
    slots.iter().map(|slot| format!("test.web.{slot}.1 {what}")).collect()
}

#[tokio::test]
async fn load_brings_instances_and_calm_takes_them() {
    let mut life = Life::new().await;
    life.scale = scaling(ScalePolicy { cpu_percent: Some(60), ..policy(3) });
    let web = busy(&life);
    life.want(&[web], UpdateOrder::StopFirst);
    let file = life.shared().join("busy");
    let seen = life
        .while_agent_runs(async {
            life.until("test.web.1.1 runs").await;
            std::fs::write(&file, "").unwrap();
            life.until_all(&events(&[1001, 1002], "runs")).await
        })
        .await;
    assert!(seen.iter().all(|it| !it.contains("stop") && !it.contains("1003")), "{seen:?}");
    // Another run of the agent goes on with what runs, and lets it go when it is not needed.
    let seen = life
        .while_agent_runs(async {
            std::fs::remove_file(&file).unwrap();
            life.until_all(&events(&[1001, 1002], "ended")).await
        })
        .await;
    let others = seen.iter().filter(|it| it.starts_with("start") || it.contains("web.1.1"));
    assert_eq!(others.count(), 0, "{seen:?}");
    life.end().await;
}

/// A figure of the service itself, or of another one on the node.
fn queue(service: Option<&str>) -> MetricTarget {
    MetricTarget {
        name: "jobs_waiting".to_owned(),
        labels: [("queue".to_owned(), "a".to_owned())].into(),
        source: MetricSource::Http {
            service: service.map(|name| name.parse().unwrap()),
            port: 8080,
            path: "/metrics".to_owned(),
        },
        per_second: false,
        target: Target::Value(10_000),
    }
}

/// A server that tells what is in a file.
const SERVE: &str = "trap 'exit 0' TERM; mkdir -p /tmp/www; busybox httpd -p 8080 -h /tmp/www; \
                     while :; do cat /shared/metrics > /tmp/www/new; \
                     busybox mv /tmp/www/new /tmp/www/metrics; sleep 0.1; done";

fn tell(folder: &std::path::Path, number: u32) {
    let text = format!("jobs_waiting{{queue=\"a\"}} {number}\njobs_waiting{{queue=\"b\"}} 999\n");
    std::fs::write(folder.join("new"), text).unwrap();
    std::fs::rename(folder.join("new"), folder.join("metrics")).unwrap();
}

#[tokio::test]
async fn a_queue_that_an_instance_tells_of_is_followed() {
    let mut life = Life::new().await;
    life.scale = scaling(ScalePolicy { metrics: vec![queue(None)], ..policy(2) });
    let web = life.spec("web", SERVE);
    let folder = life.shared();
    tell(&folder, 5);
    life.want(&[web], UpdateOrder::StopFirst);
    life.while_agent_runs(async {
        life.until("test.web.1.1 runs").await;
        tell(&folder, 25);
        life.until("test.web.1001.1 runs").await;
        tell(&folder, 1);
        let seen = life.until("test.web.1001.1 ended").await;
        assert!(!seen.iter().any(|it| it.contains("web.1.1")), "{seen:?}");
    })
    .await;
    life.end().await;
}

#[tokio::test]
async fn from_none_and_back_by_what_another_service_tells() {
    let mut life = Life::new().await;
    let mut policy = policy(2);
    policy.min = 0;
    life.scale = scaling(ScalePolicy { metrics: vec![queue(Some("broker"))], ..policy });
    let (web, broker) = (life.spec("web", IDLE), life.spec("broker", SERVE));
    let folder = life.shared();
    tell(&folder, 0);
    life.want(&[web, broker], UpdateOrder::StopFirst);
    life.while_agent_runs(async {
        let seen = life.until("test.broker.1.1 runs").await;
        assert!(!seen.iter().any(|it| it.contains("web")), "{seen:?}");
        tell(&folder, 3);
        let seen = life.until("test.web.1.1 runs").await;
        assert!(!seen.iter().any(|it| it.contains("web.1001")), "{seen:?}");
        tell(&folder, 0);
        life.until("test.web.1.1 ended").await;
    })
    .await;
    life.end().await;
}

#[tokio::test]
#[ignore = "prints figures; asserts nothing that a busy machine could break"]
async fn from_a_step_of_the_load_to_an_instance_that_runs() {
    let mut life = Life::new().await;
    life.scale = scaling(ScalePolicy { cpu_percent: Some(60), ..policy(2) });
    let web = busy(&life);
    life.want(&[web], UpdateOrder::StopFirst);
    let file = life.shared().join("busy");
    life.while_agent_runs(async {
        life.until("test.web.1.1 runs").await;
        let mut times = vec![];
        for round in 1..=10 {
            // Each at another time between two readings.
            tokio::time::sleep(Duration::from_millis(1_500 + 53 * round)).await;
            std::fs::write(&file, "").unwrap();
            let step = now();
            life.until(&format!("test.web.1001.{round} runs")).await;
            times.push(step.elapsed().as_millis());
            std::fs::remove_file(&file).unwrap();
            life.until(&format!("test.web.1001.{round} ended")).await;
        }
        times.sort_unstable();
        println!("load step to instance running: p50 {} ms, max {} ms", times[5], times[9]);
    })
    .await;
    life.end().await;
}

/// The controller knows of the home alone and gives it its turn; those beside it take theirs on the node.
#[tokio::test]
async fn those_beside_one_follow_it_to_another_version_one_after_the_other() {
    let mut life = Life::new().await;
    let mut policy = policy(3);
    policy.down.window_ms = 3_600_000;
    life.scale = scaling(ScalePolicy { cpu_percent: Some(60), ..policy });
    let mut web = busy(&life);
    life.want(std::slice::from_ref(&web), UpdateOrder::StopFirst);
    std::fs::write(life.shared().join("busy"), "").unwrap();
    life.while_agent_runs(life.until_all(&events(&[1, 1001, 1002], "runs"))).await;
    web.process.environment.insert("VERSION".to_owned(), "2".to_owned());
    life.want(&[web], UpdateOrder::StopFirst);
    let second = |slot: u32, what: &str| format!("test.web.{slot}.2 {what}");
    let seen = life.while_agent_runs(life.until(&second(1002, "runs"))).await;
    let at = |what: String| seen.iter().position(|it| *it == what).unwrap_or(usize::MAX);
    let home = at(second(1, "runs"));
    assert!(home < at("stop test.web.1001.1".to_owned()), "{seen:?}");
    assert!(at(second(1001, "runs")) < at("stop test.web.1002.1".to_owned()), "{seen:?}");
    life.end().await;
}

/// What the whole agent costs while fifty instances follow their load and nothing happens.
#[tokio::test]
#[ignore = "prints figures; asserts nothing that a busy machine could break"]
async fn fifty_calm_instances() {
    use crate::bench::clock_ns;
    use rustix::time::ClockId;
    const OVER_S: u64 = 20;
    let mut life = Life::new().await;
    let web = Spec { mounts: vec![], ..life.spec("web", "exec sleep 1000") };
    let runs: Vec<u32> = std::iter::once(1).chain(1001..1050).collect();
    for (what, share) in [("nothing measured", None), ("processor and memory", Some(60))] {
        let mut policy = policy(50);
        policy.min = 50;
        (policy.cpu_percent, policy.memory_percent) = (share, share);
        let mut web = web.clone();
        web.resources.cpu_reservation_millis = Some(100);
        web.resources.memory_reservation_bytes = Some(64 << 20);
        life.scale = scaling(policy);
        life.want(&[web], UpdateOrder::StopFirst);
        life.while_agent_runs(async {
            if share.is_none() {
                life.until_all(&events(&runs, "runs")).await;
            }
            // Until everything that follows a start is over.
            tokio::time::sleep(Duration::from_secs(3)).await;
            let before = clock_ns(ClockId::ProcessCPUTime);
            tokio::time::sleep(Duration::from_secs(OVER_S)).await;
            let used = clock_ns(ClockId::ProcessCPUTime) - before;
            let percent = used as f64 / 1e9 / OVER_S as f64 * 100.0;
            println!("agent with 50 instances, {what}: {percent:.3} % of a core");
        })
        .await;
    }
    life.end().await;
}

#[tokio::test]
async fn connections_are_counted_where_they_are() {
    let mut life = Life::new().await;
    let connections = MetricTarget {
        name: "connections".to_owned(),
        labels: [].into(),
        source: MetricSource::Connections,
        per_second: false,
        target: Target::Average(1_000),
    };
    life.scale = scaling(ScalePolicy { metrics: vec![connections], ..policy(2) });
    // Both ends of the connection are in the container, and the one that waits is there first.
    let script = "sleep 1000 | busybox nc -l -p 9 & \
                  until busybox grep -q ':0009 ' /proc/net/tcp /proc/net/tcp6; do sleep 0.1; done; \
                  while [ ! -e /shared/busy ]; do sleep 0.1; done; \
                  sleep 1000 | busybox nc 127.0.0.1 9 & exec sleep 1000";
    let web = life.spec("web", script);
    life.want(&[web], UpdateOrder::StopFirst);
    life.while_agent_runs(async {
        life.until("test.web.1.1 runs").await;
        std::fs::write(life.shared().join("busy"), "").unwrap();
        life.until("test.web.1001.1 runs").await;
    })
    .await;
    life.end().await;
}

#[tokio::test]
async fn memory_in_use_is_followed() {
    let mut life = Life::new().await;
    life.scale = scaling(ScalePolicy { memory_percent: Some(75), ..policy(2) });
    // What is written to memory-backed files cannot be taken back by the kernel.
    let script = "trap 'exit 0' TERM; while :; do if [ -e /shared/busy ]; then \
                  [ -e /dev/shm/much ] || dd if=/dev/zero of=/dev/shm/much bs=1048576 count=24; \
                  else busybox rm -f /dev/shm/much; fi; sleep 0.1; done";
    let mut web = life.spec("web", script);
    web.resources.memory_reservation_bytes = Some(16 << 20);
    life.want(&[web], UpdateOrder::StopFirst);
    let file = life.shared().join("busy");
    life.while_agent_runs(async {
        life.until("test.web.1.1 runs").await;
        std::fs::write(&file, "").unwrap();
        life.until("test.web.1001.1 runs").await;
        std::fs::remove_file(&file).unwrap();
        life.until("test.web.1001.1 ended").await;
    })
    .await;
    life.end().await;
}
