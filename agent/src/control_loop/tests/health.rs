//! Stories of checks, of what comes next and of what is done. The services have the node's network, so
//! that the test itself can be what listens there.

use std::net::TcpListener;

use limpet_protocol::assignment::UpdateOrder;
use limpet_protocol::event::EventKind;
use limpet_protocol::id::Slot;
use limpet_protocol::phase::Phase;
use limpet_protocol::report::{Health, InstanceStatus, Report};
use limpet_protocol::spec::{HealthCheck, HealthTest, NetworkMode, Probe, ProbeAction, Spec};

use super::id;
use super::stage::{Broker, Controller, Node, share, spec, spec_with};
use crate::runtime::ExecOutcome;
use crate::runtime::fake::FakeCall;

fn probe(port: u16) -> Probe {
    Probe {
        action: ProbeAction::Tcp { port },
        initial_delay_ms: 0,
        interval_ms: 30,
        timeout_ms: 1_000,
        success_threshold: 1,
        failure_threshold: 2,
    }
}

fn on_the_node(spec: &mut Spec) {
    spec.network.mode = NetworkMode::Host;
}

/// A port where nobody listens yet.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn an_unhealthy_instance_is_replaced_and_told() {
    let broker = Broker::start();
    let mut controller = Controller::connect(&broker).await;
    let node = Node::new();
    let (running, handle) = node.begin(&broker);
    let port = free_port();
    let story = async {
        let web = spec_with("web", |spec| {
            on_the_node(spec);
            spec.probes.live = Some(probe(port));
        });
        controller.publish_spec(&web).await;
        controller.want(1, &[web]).await;
        let told = controller.hear_event(EventKind::Unhealthy).await.message;
        let said = format!("attempt 1 is unhealthy: its live probe failed: connect to port {port}");
        assert!(told.starts_with(&said) && told.ends_with("nobody listens"), "{told}");
        let stopped = controller.hear_event(EventKind::Exited).await.message;
        assert!(stopped.contains("was unhealthy and was stopped"), "{stopped}");
        let report = controller.hear_report(|r| r.instances.iter().any(|i| i.failures > 0)).await;
        assert_eq!(report.instances[0].instance, id(1).instance);
        // It comes up: the next one is healthy, and stays.
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        controller.hear_event(EventKind::Healthy).await;
        controller
            .hear_report(|r| r.instances.iter().any(|i| i.health == Some(Health::Healthy)))
            .await;
        drop(listener);
        handle.end().await;
    };
    let (_, ()) = tokio::join!(running, story);
    let calls = handle.calls();
    let stop = FakeCall::Stop(id(1), 15, 10_000);
    assert_eq!(calls[..3], [FakeCall::Start(id(1)), stop, FakeCall::Start(id(2))]);
}

#[tokio::test]
async fn start_first_waits_until_the_new_one_is_ready() {
    let broker = Broker::start();
    let mut controller = Controller::connect(&broker).await;
    let node = Node::new();
    let (running, handle) = node.begin(&broker);
    let port = free_port();
    let story = async {
        let old = spec("web", 1);
        controller.publish_spec(&old).await;
        controller.want(1, &[old]).await;
        controller.hear_phase(1, Phase::Running).await;
        let new = spec_with("web", |spec| {
            on_the_node(spec);
            spec.probes.ready = Some(probe(port));
        });
        controller.publish_spec(&new).await;
        let mut start_first = share(&new);
        start_first.order = UpdateOrder::StartFirst;
        controller.want_shares(2, vec![start_first]).await;
        let status = controller.hear_phase(2, Phase::Running).await;
        assert_eq!(status.ready, Some(false));
        assert!(status.reason.unwrap().contains("attempt 1, of the version before, runs on"));
        assert_eq!(handle.calls(), [FakeCall::Start(id(1)), FakeCall::Start(id(2))]);
        let _listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        controller.hear_event(EventKind::Ready).await;
        handle.wait(|fake| fake.calls.len() == 4).await;
        handle.end().await;
    };
    let (_, ()) = tokio::join!(running, story);
    assert_eq!(handle.calls()[2..], [FakeCall::Stop(id(1), 15, 10_000), FakeCall::Remove(id(1))]);
}

#[tokio::test]
async fn what_comes_next_is_fetched_ahead_and_what_is_done_stays_done() {
    let broker = Broker::start();
    let mut controller = Controller::connect(&broker).await;
    let node = Node::new();
    let (running, handle) = node.begin(&broker);
    let story = async {
        let (web, next) =
            (spec("web", 1), spec_with("web", |spec| spec.image.reference = "far:1".into()));
        let job = spec("job", 1);
        let (mut staged, mut done) = (share(&web), share(&job));
        staged.next = Some(next.0);
        done.done = vec![Slot(1)];
        controller.want_shares(1, vec![staged, done]).await;
        // The spec that comes next is asked for like the others.
        for spec in [&web, &next, &job] {
            controller.publish_spec(spec).await;
        }
        let report = controller.hear_report(|report| report.staged == [next.0]).await;
        let of_job =
            report.instances.iter().find(|i| i.instance.service.as_str() == "job").unwrap();
        assert_eq!(of_job.phase, Phase::Completed);
        // It has come: its image is here, and nothing is staged any more.
        controller.want(2, &[next]).await;
        let came = |report: &Report| {
            let runs = |i: &InstanceStatus| i.attempt == 2 && i.phase == Phase::Running;
            report.staged.is_empty() && report.instances.iter().any(runs)
        };
        controller.hear_report(came).await;
        handle.end().await;
    };
    let (_, ()) = tokio::join!(running, story);
    let starts = handle.calls().into_iter().filter(|call| matches!(call, FakeCall::Start(_)));
    assert_eq!(starts.collect::<Vec<_>>(), [FakeCall::Start(id(1)), FakeCall::Start(id(2))]);
}

#[tokio::test]
async fn a_command_s_exit_code_output_and_time_out_count() {
    let broker = Broker::start();
    let mut controller = Controller::connect(&broker).await;
    let node = Node::new();
    let (running, handle) = node.begin(&broker);
    handle.script("shop.web", "no\nrows", Some(ExecOutcome::Exited(2)));
    let story = async {
        let web = spec_with("web", |spec| {
            spec.healthcheck = Some(HealthCheck {
                test: HealthTest::Shell("ask the db".to_owned()),
                interval_ms: Some(30),
                timeout_ms: Some(100),
                retries: Some(2),
                start_period_ms: None,
                start_interval_ms: None,
            });
        });
        controller.publish_spec(&web).await;
        controller.want(1, &[web]).await;
        let told = controller.hear_event(EventKind::Unhealthy).await.message;
        assert_eq!(told, "attempt 1 is unhealthy: its health check failed: exit code 2: no rows");
        // It hangs: it is killed, and that is a failure as well.
        handle.script("shop.web", "asking", None);
        let told = controller.hear_event(EventKind::Unhealthy).await.message;
        assert!(
            told.ends_with("its health check failed: it took longer than 100ms: asking"),
            "{told}"
        );
        // It is fine.
        handle.script("shop.web", "", Some(ExecOutcome::Exited(0)));
        controller.hear_event(EventKind::Healthy).await;
        // A keeper that is lost is no failure of the container.
        handle.lose_keeper();
        handle.wait(|fake| fake.poll_event().is_none()).await;
        handle.end().await;
    };
    let (_, ()) = tokio::join!(running, story);
    let calls = handle.calls();
    let check = ["/bin/sh", "-c", "ask the db"].map(str::to_owned).to_vec();
    assert_eq!(calls[..2], [FakeCall::Start(id(1)), FakeCall::Exec(id(1), check)]);
    let kills = calls.iter().filter(|call| matches!(call, FakeCall::KillExec(_, 9))).count();
    assert!(kills >= 2, "{calls:?}");
}
