//! Schedules in the loop: the clock on the wall, the timer, and the record on disk.

use std::time::Duration;

use limpet_protocol::phase::Phase;
use limpet_protocol::report::Exit;
use limpet_protocol::spec::{MissedRuns, Schedule};

use super::id;
use super::stage::{Broker, Controller, Node, spec_with};
use crate::control_loop::Clock;
use crate::control_loop::schedules::WallTimer;
use crate::runtime::fake::FakeCall;

const RUNS: &str = "runs.json";

fn scheduled(cron: &str) -> (limpet_protocol::id::SpecHash, Vec<u8>) {
    spec_with("web", |spec| {
        spec.schedule = Some(Schedule {
            cron: cron.to_owned(),
            zone: String::new(),
            missed: MissedRuns::Once,
            deadline_ms: None,
            overlap: limpet_protocol::spec::Overlap::default(),
        });
    })
}

fn now_s() -> i64 {
    i64::try_from(Clock::start().wall_ms() / 1_000).unwrap()
}

#[tokio::test]
async fn a_missed_run_is_made_up_for_once_and_its_record_is_on_disk_before_it_begins() {
    let broker = Broker::start();
    let mut controller = Controller::connect(&broker).await;
    let node = Node::new();
    let schedule = scheduled("@yearly");
    let (running, handle) = node.begin(&broker);
    let story = async {
        controller.hear_presence(true).await;
        controller.publish_spec(&schedule).await;
        controller.want(1, std::slice::from_ref(&schedule)).await;
        let status = controller.hear_phase(1, Phase::Waiting).await;
        let reason = status.reason.unwrap();
        assert!(reason.starts_with("next run at ") && reason.contains("-01-01 00:00"), "{reason}");
        handle.end().await;
    };
    let (_, ()) = tokio::join!(running, story);
    let path = node.data().join(RUNS);
    let first = std::fs::read_to_string(&path).unwrap();
    assert!(first.contains("shop.web.1") && first.contains("@yearly|"), "{first}");

    // Off for more than a year.
    let long_ago = now_s() - 2 * 366 * 86_400;
    let text =
        format!(r#"{{"runs":{{"shop.web.1":{{"schedule":"@yearly|","last_s":{long_ago}}}}}}}"#);
    std::fs::write(&path, text).unwrap();
    node.reboot();
    let (running, handle) = node.begin(&broker);
    let story = async {
        controller.hear_phase(1, Phase::Running).await;
        let kept = std::fs::read_to_string(&path).unwrap();
        assert!(!kept.contains(&long_ago.to_string()), "it is on disk by now: {kept}");
        handle.exit(&id(1), Exit { code: Some(0), out_of_memory: false });
        let status = controller.hear_phase(1, Phase::Completed).await;
        assert!(status.reason.unwrap().starts_with("next run at "));
        handle.end().await;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), kept, "one write a run");
    };
    let (_, ()) = tokio::join!(running, story);

    // A power cut: the run is not repeated.
    node.reboot();
    let (running, handle) = node.begin(&broker);
    let story = async {
        controller.hear_phase(1, Phase::Waiting).await;
        assert!(!handle.calls().contains(&FakeCall::Start(id(1))), "{:?}", handle.calls());
        handle.end().await;
    };
    tokio::join!(running, story);
}

#[tokio::test]
async fn a_device_that_is_plugged_in_is_told() {
    use limpet_protocol::message::NodePresence;
    use limpet_protocol::topic::Topic;
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    let broker = Broker::start();
    let mut controller = Controller::connect(&broker).await;
    let node = Node::new();
    let (running, handle) = node.begin(&broker);
    let story = async {
        for expected in [vec![], vec!["/dev/ttyUSB0".to_owned()]] {
            controller
                .hear(|topic, payload| match topic {
                    Topic::Up(_) => {
                        let presence: NodePresence =
                            limpet_protocol::codec::decode(payload).unwrap();
                        (presence.facts?.devices? == expected).then_some(())
                    }
                    _ => None,
                })
                .await;
            let path = node.dev().join("ttyUSB0");
            if expected.is_empty() {
                let mode = Mode::from(0o600);
                mknodat(CWD, &path, FileType::CharacterDevice, mode, makedev(1, 3)).unwrap();
            }
        }
        handle.end().await;
    };
    tokio::join!(running, story);
}

#[tokio::test]
async fn the_timer_follows_the_clock_on_the_wall_and_costs_nothing_unset() {
    let mut timer = WallTimer::default();
    let soon = Duration::from_millis(50);
    assert!(tokio::time::timeout(soon, timer.gone_off()).await.is_err(), "never set");
    timer.set(Some(now_s() - 5)).unwrap();
    let limit = Duration::from_secs(5);
    tokio::time::timeout(limit, timer.gone_off()).await.expect("a time that has passed is now");
    timer.set(Some(now_s() + 1_000)).unwrap();
    assert!(tokio::time::timeout(soon, timer.gone_off()).await.is_err(), "not yet");
    timer.set(Some(now_s() + 1)).unwrap();
    tokio::time::timeout(limit, timer.gone_off()).await.expect("its time comes");
    timer.set(None).unwrap();
    assert!(tokio::time::timeout(soon, timer.gone_off()).await.is_err(), "taken back");
}
