//! Stories of the loop: a real broker (Debian's Mosquitto), a hand-written controller that signs, the
//! fake runtime.

mod health;
mod images;
mod schedules;
mod stage;

use limpet_protocol::codec;
use limpet_protocol::event::{Cursor, EventKind};
use limpet_protocol::message::{ControllerPresence, JoinReply, JoinRequest};
use limpet_protocol::phase::Phase;
use limpet_protocol::report::Exit;
use limpet_protocol::spec::RestartCondition;
use limpet_protocol::topic::Topic;

use crate::ledger::identity::Identity;
use crate::link::join::{JoinError, JoinSettings, join, join_once};
use crate::runtime::ContainerId;
use crate::runtime::fake::FakeCall;
use stage::{Broker, Controller, Node, TOKEN, node, spec};

fn id(attempt: u32) -> ContainerId {
    ContainerId { instance: "shop.web.1".parse().unwrap(), attempt }
}

#[tokio::test]
async fn a_node_joins_once_and_a_refused_one_is_told_why() {
    let broker = Broker::start();
    let mut controller = Controller::connect(&broker).await;
    let settings = JoinSettings {
        broker: broker.url(),
        token: stage::config(&broker, "unused").join_token.unwrap(),
        wanted: node(),
        facts: crate::load::facts(&Default::default(), "/none"),
    };
    let answer = async {
        for refuse in [true, false] {
            let (session, request): (_, JoinRequest) = controller
                .hear(|topic, payload| match topic {
                    Topic::JoinIn(session) => Some((session, codec::decode(payload).unwrap())),
                    _ => None,
                })
                .await;
            let mac_key = ring::hmac::Key::new(
                ring::hmac::HMAC_SHA256,
                ring::digest::digest(&ring::digest::SHA256, TOKEN.as_bytes()).as_ref(),
            );
            ring::hmac::verify(&mac_key, session.as_str().as_bytes(), &request.proof).unwrap();
            assert_eq!(request.wanted, node());
            let reply = if refuse {
                JoinReply::Refused { reason: "the name is taken".to_owned() }
            } else {
                controller.welcome()
            };
            controller.say(&Topic::JoinOut(session), codec::encode(&reply).unwrap()).await;
        }
    };
    let joined = async {
        let refused = join(&settings).await.unwrap_err();
        assert!(matches!(&refused, JoinError::Refused { reason } if reason == "the name is taken"));
        join(&settings).await.unwrap()
    };
    let (identity, ()) = tokio::join!(joined, answer);
    assert_eq!(identity.node, node());
    let dir = tempfile::tempdir().unwrap();
    identity.write(dir.path()).unwrap();
    assert_eq!(Identity::read(dir.path()).unwrap().unwrap(), identity);

    let refusing = Broker::that_refuses();
    let refused = JoinSettings { broker: refusing.url(), ..settings.clone() };
    let told = join_once(&refused).await.unwrap_err();
    assert!(matches!(told, JoinError::BadToken { .. }), "{told}");
    let told = told.to_string();
    assert!(told.contains("join token") && told.contains("limpet token create"), "{told}");
    assert!(told.contains(&refusing.url().to_string()), "{told}");
    let mut with_login = refused;
    with_login.broker.login = Some(("u".to_owned(), "p".to_owned()));
    assert!(matches!(join_once(&with_login).await, Err(JoinError::BadLogin { .. })));

    let nowhere = JoinSettings { broker: "mqtt://127.0.0.1:1".parse().unwrap(), ..settings };
    assert!(matches!(join_once(&nowhere).await, Err(JoinError::Unreachable { .. })));
}

#[tokio::test]
async fn an_assignment_runs_heals_changes_and_ends() {
    let broker = Broker::start();
    let mut controller = Controller::connect(&broker).await;
    let node = Node::new();
    let (running, handle) = node.begin(&broker);
    let story = async {
        controller.hear_presence(true).await;
        // The assignment comes before its spec: the node listens, and asks.
        let first = spec("web", 1);
        controller.want(1, std::slice::from_ref(&first)).await;
        controller.publish_spec(&first).await;
        controller.hear_phase(1, Phase::Running).await;

        // Killed: started again at once.
        let began = tokio::time::Instant::now();
        handle.exit(&id(1), Exit { code: Some(137), out_of_memory: false });
        let status = controller.hear_phase(2, Phase::Running).await;
        assert!(began.elapsed().as_millis() < 1_000);
        assert_eq!(status.last_exit.unwrap().code, Some(137));

        // Changed: the old ends, the new begins in the same slot.
        let second = spec("web", 2);
        controller.publish_spec(&second).await;
        controller.want(2, &[second]).await;
        controller.hear_phase(3, Phase::Running).await;

        controller.want(3, &[]).await;
        controller.hear_report(|report| report.instances.is_empty()).await;
        handle.end().await;
        controller.hear_presence(false).await;
    };
    let (_, ()) = tokio::join!(running, story);
    let stop = |attempt| FakeCall::Stop(id(attempt), 15, 10_000);
    let expected = [
        FakeCall::Start(id(1)),
        FakeCall::Start(id(2)),
        FakeCall::Remove(id(1)),
        stop(2),
        FakeCall::Start(id(3)),
        FakeCall::Remove(id(2)),
        stop(3),
        FakeCall::Remove(id(3)),
    ];
    assert_eq!(handle.calls(), expected);
}

#[tokio::test]
async fn the_ledger_runs_without_a_broker_and_what_runs_is_adopted() {
    let broker = Broker::start();
    let mut controller = Controller::connect(&broker).await;
    let node = Node::new();
    let (running, handle) = node.begin(&broker);
    let story = async {
        let web = spec("web", 1);
        controller.publish_spec(&web).await;
        controller.want(7, &[web]).await;
        controller.hear_phase(1, Phase::Running).await;
        handle.end().await;
    };
    tokio::join!(running, story);
    let url = broker.url();
    drop(broker);

    // The agent was restarted: the same container goes on.
    let (running, handle) = node.begin_at(url.clone());
    let story = async {
        handle.wait(|fake| fake.poll_event().is_none()).await;
        handle.end().await;
    };
    tokio::join!(running, story);
    assert_eq!(handle.calls(), [FakeCall::Start(id(1))], "nothing was started again");

    // The node was restarted: no container is left, the ledger starts it.
    node.reboot();
    let (running, handle) = node.begin_at(url);
    let story = async {
        handle.wait(|fake| fake.calls.len() == 1).await;
        handle.end().await;
    };
    tokio::join!(running, story);
    assert_eq!(handle.calls(), [FakeCall::Start(id(1))]);
}

#[tokio::test]
async fn a_broker_that_dies_is_found_again_and_nothing_is_restarted() {
    let mut broker = Broker::start();
    let mut controller = Controller::connect(&broker).await;
    let node = Node::new();
    let (running, handle) = node.begin(&broker);
    let story = async {
        let web = spec("web", 1);
        controller.publish_spec(&web).await;
        controller.want(1, std::slice::from_ref(&web)).await;
        controller.hear_phase(1, Phase::Running).await;
        let session = controller.session;
        broker.kill();
        broker.start_again();
        controller.reconnect(&broker).await;
        // Everything is told anew, and a new assignment is taken.
        controller.hear_presence(true).await;
        assert!(controller.session > session);
        controller.hear_phase(1, Phase::Running).await;
        controller.want(2, &[web, spec("db", 1)]).await;
        controller.publish_spec(&spec("db", 1)).await;
        controller.hear_report(|r| r.observed.is_some_and(|g| g.number == 2)).await;
        controller
            .hear_report(|r| r.instances.iter().filter(|i| i.phase == Phase::Running).count() == 2)
            .await;
        handle.end().await;
    };
    tokio::join!(running, story);
    assert_eq!(handle.calls().iter().filter(|call| matches!(call, FakeCall::Stop(..))).count(), 0);
}

#[tokio::test]
async fn garbage_is_refused_with_one_event_and_changes_nothing() {
    let broker = Broker::start();
    let mut controller = Controller::connect(&broker).await;
    let node_files = Node::new();
    let (running, handle) = node_files.begin(&broker);
    let story = async {
        let web = spec("web", 1);
        controller.publish_spec(&web).await;
        controller.want(5, std::slice::from_ref(&web)).await;
        controller.hear_phase(1, Phase::Running).await;

        let want = Topic::Want(node());
        for garbage in [&b"\xff\xff"[..], b"", &[0x9f; 1000], &[0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff]]
        {
            controller.say(&want, garbage.to_vec()).await;
        }
        controller.say(&Topic::Ack(node()), b"garbage".to_vec()).await;
        controller.say(&Topic::CallIn(node(), "abc".parse().unwrap()), b"garbage".to_vec()).await;
        controller.want(4, &[]).await;
        let forged = controller.forged(6, &[]);
        controller.say(&want, forged).await;
        let mut told = Vec::new();
        while told.len() < 3 {
            told.extend(controller.hear_events(EventKind::AssignmentRefused).await);
        }
        assert_eq!(told.len(), 3, "one event for each cause: {told:?}");
        assert!(told[0].contains("cannot be decoded"), "{told:?}");
        assert!(told[1].contains("1.4 is older than 1.5"), "{told:?}");
        assert!(told[2].contains("not signed by the controller"), "{told:?}");

        // A wrong spec is passed over, the right one taken.
        let db = spec("db", 1);
        controller.want(6, &[web, db.clone()]).await;
        controller.say(&Topic::Spec(db.0), b"garbage".to_vec()).await;
        controller.publish_spec(&db).await;
        controller
            .hear_report(|r| r.instances.iter().filter(|i| i.phase == Phase::Running).count() == 2)
            .await;
        handle.end().await;
    };
    tokio::join!(running, story);
}

#[tokio::test]
async fn events_come_again_until_they_are_acknowledged() {
    let mut broker = Broker::start();
    let mut controller = Controller::connect(&broker).await;
    let node_files = Node::new();
    let (running, handle) = node_files.begin(&broker);
    let story = async {
        let batch = controller.hear_batch().await;
        assert_eq!(batch.events[0].kind, EventKind::AgentStarted);
        assert_eq!(batch.events[0].sequence, 1);
        broker.kill();
        broker.start_again();
        controller.reconnect(&broker).await;
        assert_eq!(controller.hear_batch().await.events[0], batch.events[0]);
        let last = batch.events.last().unwrap().sequence;
        let cursor = Cursor { boot: batch.boot, sequence: last };
        controller.say(&Topic::Ack(node()), codec::encode(&cursor).unwrap()).await;
        controller.want(1, &[]).await;
        let next = controller.hear_batch().await;
        assert_eq!(next.events[0].kind, EventKind::AssignmentAccepted);
        assert_eq!(next.events[0].sequence, last + 1);
        handle.end().await;
    };
    tokio::join!(running, story);
}

#[tokio::test]
async fn a_job_that_completed_runs_again_after_a_reboot_only() {
    let broker = Broker::start();
    let mut controller = Controller::connect(&broker).await;
    let node_files = Node::new();
    let (running, handle) = node_files.begin(&broker);
    let story = async {
        let job = stage::spec_with("web", |spec| spec.restart.condition = RestartCondition::None);
        controller.publish_spec(&job).await;
        controller.want(1, &[job]).await;
        controller.hear_phase(1, Phase::Running).await;
        handle.exit(&id(1), Exit { code: Some(0), out_of_memory: false });
        controller.hear_phase(1, Phase::Completed).await;
        handle.end().await;
    };
    tokio::join!(running, story);
    for _ in 0..2 {
        // The agent alone was restarted: it says again that the job is done.
        controller.reconnect(&broker).await;
        let (running, handle) = node_files.begin(&broker);
        let story = async {
            // No broker keeps this one, so it is told by the agent that runs now.
            controller.hear_event(EventKind::AgentStarted).await;
            controller.hear_phase(1, Phase::Completed).await;
            handle.end().await;
        };
        tokio::join!(running, story);
        assert_eq!(handle.calls(), [FakeCall::Start(id(1))], "it ran once");
    }
    node_files.reboot();
    controller.reconnect(&broker).await;
    let (running, handle) = node_files.begin(&broker);
    let story = async {
        controller.hear_phase(1, Phase::Running).await;
        handle.end().await;
    };
    tokio::join!(running, story);
}

#[tokio::test]
async fn an_adopted_container_is_stopped_by_its_own_signal() {
    let broker = Broker::start();
    let mut controller = Controller::connect(&broker).await;
    let mut node_files = Node::new();
    let (running, handle) = node_files.begin(&broker);
    let story = async {
        let web = stage::spec_with("web", |spec| spec.image.reference = "quits:1".to_owned());
        controller.publish_spec(&web).await;
        controller.want(1, &[web]).await;
        controller.hear_phase(1, Phase::Running).await;
        handle.end().await;
    };
    tokio::join!(running, story);
    // The agent that comes after does not know the image yet.
    node_files.images_hang = true;
    controller.reconnect(&broker).await;
    let (running, handle) = node_files.begin(&broker);
    let story = async {
        controller.hear_event(EventKind::Adopted).await;
        controller.want(2, &[]).await;
        controller.hear_report(|report| report.instances.is_empty()).await;
        handle.end().await;
    };
    tokio::join!(running, story);
    let sigquit = FakeCall::Stop(id(1), 3, 10_000);
    assert_eq!(handle.calls(), [FakeCall::Start(id(1)), sigquit, FakeCall::Remove(id(1))]);
}

#[tokio::test]
async fn a_missing_spec_is_asked_for_and_the_old_assignment_goes_on_until_then() {
    let broker = Broker::start();
    let mut controller = Controller::connect(&broker).await;
    let node_files = Node::new();
    let (running, handle) = node_files.begin(&broker);
    let story = async {
        // No assignment came by itself: the node asks once.
        let ask = controller.hear_ask().await;
        assert!(ask.want && ask.specs.is_empty());
        let (web, db) = (spec("web", 1), spec("db", 1));
        controller.publish_spec(&web).await;
        controller.want(1, std::slice::from_ref(&web)).await;
        controller.hear_phase(1, Phase::Running).await;
        controller.want(2, std::slice::from_ref(&db)).await;
        let ask = controller.hear_ask().await;
        assert_eq!((ask.want, ask.specs), (false, vec![db.0]));
        assert_eq!(handle.calls(), [FakeCall::Start(id(1))], "the old one goes on");
        controller.publish_spec(&db).await;
        controller
            .hear_report(|report| {
                report.instances.len() == 1
                    && report.instances[0].instance.service.as_str() == "db"
                    && report.instances[0].phase == Phase::Running
            })
            .await;
        handle.end().await;
    };
    tokio::join!(running, story);
}

#[tokio::test]
async fn a_controller_that_comes_back_on_somebody_elses_broker_is_told_everything() {
    let broker = Broker::start();
    let mut controller = Controller::connect(&broker).await;
    let node_files = Node::new();
    let (running, handle) = node_files.begin(&broker);
    let story = async {
        controller.hear_presence(true).await;
        let first = controller.hear_batch().await;
        let presence = ControllerPresence { online: true, epoch: 1, key: vec![0; 32] };
        let presence = codec::encode(&presence).unwrap();
        controller.say(&Topic::Controller, presence.clone()).await;
        controller.say(&Topic::Controller, presence).await;
        controller.hear_presence(true).await;
        controller.hear_report(|_| true).await;
        assert_eq!(controller.hear_batch().await.events[0], first.events[0]);
        handle.end().await;
    };
    tokio::join!(running, story);
}

#[tokio::test]
async fn told_to_stop_everything_it_ends_with_nothing_left() {
    let broker = Broker::start();
    let mut controller = Controller::connect(&broker).await;
    let mut node_files = Node::new();
    node_files.stop_on_exit = true;
    let (running, handle) = node_files.begin(&broker);
    let story = async {
        let specs = [spec("web", 1), spec("db", 1)];
        for spec in &specs {
            controller.publish_spec(spec).await;
        }
        controller.want(1, &specs).await;
        controller
            .hear_report(|r| r.instances.iter().filter(|i| i.phase == Phase::Running).count() == 2)
            .await;
        handle.end().await;
        controller.hear_report(|report| report.instances.is_empty()).await;
        controller.hear_presence(false).await;
    };
    tokio::join!(running, story);
    handle.wait(|fake| fake.containers.is_empty()).await;
    // The next start runs the assignment again, with numbers that were not used before.
    let (running, handle) = node_files.begin(&broker);
    let story = async {
        controller.hear_phase(2, Phase::Running).await;
        handle.end().await;
    };
    tokio::join!(running, story);
}

#[tokio::test]
async fn a_lost_keeper_costs_no_container() {
    let broker = Broker::start();
    let mut controller = Controller::connect(&broker).await;
    let mut node_files = Node::new();
    node_files.look = |_| vec!["the clock is behind".to_owned()];
    let (running, handle) = node_files.begin(&broker);
    let story = async {
        let web = spec("web", 1);
        controller.publish_spec(&web).await;
        controller.want(1, &[web]).await;
        controller.hear_phase(1, Phase::Running).await;
        handle.lack("no memory cgroup");
        handle.lose_keeper();
        controller
            .hear(|topic, payload| {
                let Topic::Up(_) = topic else { return None };
                let presence: limpet_protocol::message::NodePresence =
                    codec::decode(payload).unwrap();
                let told = presence.facts?.conditions;
                (told == ["no memory cgroup", "the clock is behind"]).then_some(())
            })
            .await;
        let told = controller.hear_events(EventKind::Other).await;
        assert!(told[0].contains("the keeper was lost"), "{told:?}");
        handle.exit(&id(1), Exit { code: Some(1), out_of_memory: true });
        controller.hear_phase(2, Phase::Running).await;
        let told = controller.hear_events(EventKind::OutOfMemory).await;
        assert!(told[0].contains("more memory than its limit"), "{told:?}");
        handle.end().await;
    };
    tokio::join!(running, story);
    let expected = [FakeCall::Start(id(1)), FakeCall::Start(id(2)), FakeCall::Remove(id(1))];
    assert_eq!(handle.calls(), expected);
}
