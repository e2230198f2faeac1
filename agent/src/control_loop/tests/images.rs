//! Images that are fetched or cannot be had, and what is said of it.

use std::collections::BTreeMap;

use limpet_protocol::call::{CallIn, CallOut};
use limpet_protocol::codec;
use limpet_protocol::event::EventKind;
use limpet_protocol::phase::Phase;
use limpet_protocol::report::Exit;
use limpet_protocol::topic::Topic;

use super::id;
use super::stage::{Broker, Controller, Node, node, spec};

#[tokio::test]
async fn a_bad_image_does_not_hold_up_the_others() {
    let broker = Broker::start();
    let mut controller = Controller::connect(&broker).await;
    let node_files = Node::new();
    let (running, handle) = node_files.begin(&broker);
    let story = async {
        let (web, bad) = (spec("web", 1), spec("absent", 1));
        controller.publish_spec(&web).await;
        controller.publish_spec(&bad).await;
        controller.want(1, &[web, bad]).await;
        controller
            .hear_report(|report| {
                let phase = |service: &str| {
                    let of = |i: &&limpet_protocol::report::InstanceStatus| {
                        i.instance.service.as_str() == service
                    };
                    report.instances.iter().find(of).map(|i| (i.phase, i.reason.clone()))
                };
                phase("web") == Some((Phase::Running, None))
                    && phase("absent").is_some_and(|(phase, reason)| {
                        phase == Phase::Pulling
                            && reason.is_some_and(|r| r.contains("no such image"))
                    })
            })
            .await;
        let told = controller.hear_event(EventKind::PullFailed).await;
        assert_eq!(told.instance, Some("shop.absent.1".parse().unwrap()));
        assert!(told.message.contains("absent:1"), "{told:?}");
        assert!(told.message.contains("no such image"), "{told:?}");
        // Nobody to log from, and a call that is refused is answered.
        let session: limpet_protocol::id::SessionId = "call1".parse().unwrap();
        let ask = CallIn::Logs {
            instance: "shop.absent.1".parse().unwrap(),
            tail: None,
            follow: false,
            credit: 4,
            since_ms: None,
            timestamps: false,
        };
        controller.say(&Topic::CallIn(node(), session.clone()), codec::encode(&ask).unwrap()).await;
        let answer: CallOut = controller
            .hear(|topic, payload| {
                (topic == Topic::CallOut(node(), session.clone()))
                    .then(|| codec::decode(payload).unwrap())
            })
            .await;
        assert!(matches!(answer, CallOut::End { error: Some(_), .. }));
        // A kind of call of tomorrow is answered too.
        let unknown = codec::encode(&BTreeMap::from([("teleport", 1)])).unwrap();
        controller.say(&Topic::CallIn(node(), "call2".parse().unwrap()), unknown).await;
        let answer: CallOut = controller
            .hear(|topic, payload| {
                (topic == Topic::CallOut(node(), "call2".parse().unwrap()))
                    .then(|| codec::decode(payload).unwrap())
            })
            .await;
        let CallOut::End { error: Some(error), .. } = answer else { panic!("{answer:?}") };
        assert!(error.contains("update the agent"), "{error}");
        handle.end().await;
    };
    tokio::join!(running, story);
}

#[tokio::test]
async fn a_pull_and_a_put_off_start_are_told_with_their_instance() {
    let broker = Broker::start();
    let mut controller = Controller::connect(&broker).await;
    let node_files = Node::new();
    let (running, handle) = node_files.begin(&broker);
    let story = async {
        let (web, far) = (spec("web", 1), spec("far", 1));
        controller.publish_spec(&web).await;
        controller.publish_spec(&far).await;
        controller.want(1, &[web, far]).await;
        let mut events = Vec::new();
        let mut crashed = 0;
        let kinds = |events: &[limpet_protocol::event::Event], service: &str| {
            let of = |e: &&limpet_protocol::event::Event| {
                e.instance.as_ref().is_some_and(|i| i.service.as_str() == service)
            };
            events.iter().filter(of).map(|e| e.kind).collect::<Vec<_>>()
        };
        while kinds(&events, "web").iter().filter(|kind| **kind == EventKind::BackOff).count() < 2 {
            let batch = controller.hear_batch().await;
            for event in batch.events {
                let web_runs = event.kind == EventKind::Started
                    && event.instance.as_ref().is_some_and(|it| it.service.as_str() == "web");
                events.push(event);
                if web_runs {
                    crashed += 1;
                    handle.exit(&id(crashed), Exit { code: Some(3), out_of_memory: false });
                }
            }
        }
        use EventKind::{BackOff, Exited, Pulled, Pulling, Started};
        assert_eq!(kinds(&events, "far"), [Pulling, Pulled, Started]);
        let expected =
            [Started, Exited, Started, Exited, BackOff, Started, Exited, BackOff].as_slice();
        assert_eq!(kinds(&events, "web"), expected, "what is there is not pulled: {events:?}");
        let pauses: Vec<_> = events.iter().filter(|event| event.kind == BackOff).collect();
        assert!(
            pauses[0].message.contains("exit code 3; the next start waits 100ms"),
            "{pauses:?}"
        );
        assert!(pauses[1].message.contains("waits 200ms"), "{pauses:?}");
        handle.end().await;
    };
    tokio::join!(running, story);
}
