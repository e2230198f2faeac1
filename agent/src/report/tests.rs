//! What is told, when, and how often.

use limpet_protocol::event::{Cursor, EventKind};
use limpet_protocol::id::SpecHash;
use limpet_protocol::limits::{MAX_EVENTS_KEPT, MAX_EVENTS_PER_BATCH};
use limpet_protocol::phase::Phase;

use super::events::EventQueue;
use super::*;

fn status(phase: Phase, reason: Option<&str>) -> Status {
    Status {
        instance: "shop.web.1".parse().unwrap(),
        attempt: 1,
        spec: SpecHash([1; 32]),
        phase,
        reason: reason.map(str::to_owned),
        last_exit: None,
        health: None,
        ready: None,
        failures: 0,
    }
}

#[test]
fn only_changes_are_told_and_they_are_gathered() {
    let mut reporter = Reporter::new(3, 100);
    assert_eq!(reporter.due_ms(), Some(0), "what the node has is unknown to the controller");
    let first = reporter.take(1_000);
    assert_eq!((first.boot, first.sequence, first.instances.len()), (3, 101, 0));
    reporter.update(None, vec![], 5);
    assert_eq!(reporter.due_ms(), None);

    reporter.update(None, vec![status(Phase::Creating, None)], 10);
    assert_eq!(reporter.due_ms(), Some(1_050));
    reporter.update(None, vec![status(Phase::Running, None)], 11);
    let second = reporter.take(1_050);
    assert_eq!((second.sequence, second.instances[0].since_ms), (102, 11));

    reporter.update(None, vec![status(Phase::Running, None)], 99);
    assert_eq!(reporter.due_ms(), None, "time alone changes nothing");
    reporter.update(None, vec![status(Phase::Running, Some("x"))], 120);
    assert_eq!(reporter.take(2_000).instances[0].since_ms, 11, "a reason is no new phase");
    reporter.update(Some(Generation { epoch: 1, number: 1 }), vec![], 130);
    assert_eq!(reporter.due_ms(), Some(2_050));
    reporter.repeat();
    assert_eq!(reporter.due_ms(), Some(0));
}

#[test]
fn long_texts_are_cut_at_a_character() {
    let cut = bounded("ä".repeat(MAX_REASON_BYTES));
    assert!(cut.len() <= MAX_REASON_BYTES && cut.ends_with("ä…"));
    assert_eq!(bounded("short".to_owned()), "short");
}

#[test]
fn events_are_kept_until_the_controller_has_them() {
    let mut queue = EventQueue::new(3, 10);
    let push = |queue: &mut EventQueue, count: usize| {
        for _ in 0..count {
            queue.push(EventKind::Other, None, "m".to_owned(), 0);
        }
    };
    let sequences = |queue: &mut EventQueue| -> Option<Vec<u64>> {
        Some(queue.next_batch()?.events.iter().map(|event| event.sequence).collect())
    };
    push(&mut queue, 2);
    assert_eq!(sequences(&mut queue), Some(vec![11, 12]));
    assert_eq!(sequences(&mut queue), None);
    queue.acknowledged(Cursor { boot: 2, sequence: 99 });
    queue.acknowledged(Cursor { boot: 3, sequence: 11 });
    queue.repeat();
    assert_eq!(sequences(&mut queue), Some(vec![12]));

    push(&mut queue, MAX_EVENTS_KEPT + 5);
    let first = queue.next_batch().unwrap();
    assert_eq!(first.events.len(), MAX_EVENTS_PER_BATCH);
    assert_eq!(first.events[0].sequence, 18, "12 to 17 were dropped, and the gap tells it");
    assert!(queue.has_unsaid());
}
