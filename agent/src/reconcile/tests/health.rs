//! Health: who is checked when, what becomes of the unhealthy, and who waits for the healthy.

use limpet_protocol::report::Health;
use limpet_protocol::spec::{Probe, ProbeAction};

use super::*;
use crate::reconcile::{MAX_CHECKS, MAX_SLOW_CHECKS, SLOW_CHECK_MS};

pub(super) fn probe(interval_ms: u64, failure_threshold: u32) -> Probe {
    Probe {
        action: ProbeAction::Tcp { port: 80 },
        initial_delay_ms: 0,
        interval_ms,
        timeout_ms: 1_000,
        success_threshold: 1,
        failure_threshold,
    }
}

fn with_live(service: &str, version: u8) -> WantedInstance {
    spec(service, version, |spec| spec.probes.live = Some(probe(10_000, 2)))
}

fn health(world: &World) -> Vec<(Option<Health>, Option<bool>, u32)> {
    let statuses = world.decide().statuses;
    statuses.iter().map(|status| (status.health, status.ready, status.failures)).collect()
}

#[test]
fn an_unhealthy_container_is_replaced_under_the_back_off_rules() {
    let web = with_live("web", 1);
    let mut world = World::with_images(&[&web]);
    world.step();
    world.now_ms += 700;
    world.started("shop.web.1.1");
    assert_eq!(world.step(), ["live probe of shop.web.1.1"]);
    assert_eq!(world.step(), [""; 0], "one at a time");
    assert_eq!(world.decide().wake_at_ms, None, "its end wakes");
    world.checked("shop.web.1.1", Kind::Live, true);
    assert_eq!(health(&world), [(Some(Health::Healthy), None, 0)]);
    for _ in 0..2 {
        let due_ms = world.decide().wake_at_ms.unwrap();
        assert!((7_500..=10_000).contains(&(due_ms - world.now_ms)), "{due_ms}");
        world.now_ms = due_ms;
        assert_eq!(world.step(), ["live probe of shop.web.1.1"]);
        world.checked("shop.web.1.1", Kind::Live, false);
    }
    assert_eq!(health(&world), [(Some(Health::Unhealthy), None, 0)]);
    let reason = "its live probe failed: no answer";
    assert_eq!(world.statuses(), [format!("shop.web.1.1 running: {reason}")]);
    assert_eq!(world.step(), ["stop shop.web.1.1"]);
    assert_eq!(
        world.statuses(),
        [format!("shop.web.1.2 creating: waits for the end of attempt 1: {reason}")]
    );
    // It ran well for long enough, so the next start comes at once; it counts as failed all the same.
    world.exit("shop.web.1.1", 0);
    assert_eq!(world.step(), ["start shop.web.1.2"]);
    assert_eq!(health(&world), [(None, None, 1)]);
    // One that is never healthy is a crash loop.
    let mut waits = Vec::new();
    for attempt in 2..6 {
        let begun_ms = world.now_ms;
        let name = format!("shop.web.1.{attempt}");
        world.started(&name);
        (0..2).for_each(|_| world.checked(&name, Kind::Live, false));
        world.step();
        world.exit(&name, 143);
        if let Some(due_ms) = world.decide().wake_at_ms {
            world.now_ms = due_ms;
        }
        assert!(world.step().contains(&format!("start shop.web.1.{}", attempt + 1)));
        waits.push(world.now_ms - begun_ms);
    }
    assert_eq!(waits, [0, 100, 200, 400]);
}

#[test]
fn being_unhealthy_is_a_failure_whatever_the_exit_code() {
    use RestartCondition::{Any, None as Never, OnFailure};
    for (condition, code, expected) in [
        (Any, 0, "start shop.web.1.2"),
        (OnFailure, 0, "start shop.web.1.2"),
        (OnFailure, 137, "start shop.web.1.2"),
        (Never, 0, ""),
    ] {
        let web = spec("web", 1, |spec| {
            spec.probes.live = Some(probe(10_000, 1));
            spec.restart.condition = condition;
        });
        let mut world = World::with_images(&[&web]);
        world.step();
        world.started("shop.web.1.1");
        world.checked("shop.web.1.1", Kind::Live, false);
        assert_eq!(world.step(), ["stop shop.web.1.1"]);
        world.exit("shop.web.1.1", code);
        assert_eq!(world.step().join(""), expected, "{condition:?} {code}");
        if condition == Never {
            let why = "was unhealthy and was stopped: its live probe failed: no answer";
            assert_eq!(world.statuses(), [format!("shop.web.1.1 failed: {why}")]);
        }
    }
}

#[test]
fn memory_is_named_where_it_was_the_cause() {
    let web = with_live("web", 1);
    for (unhealthy, exit, expected) in [
        (false, (Some(137), true), "was ended by the kernel: it used more memory than its limit"),
        (false, (Some(0), true), "ended with exit code 0"),
        (
            true,
            (Some(143), true),
            "was unhealthy and was stopped: its live probe failed: no answer; the kernel ended a \
             process of it: it used more memory than its limit",
        ),
        (
            true,
            (Some(143), false),
            "was unhealthy and was stopped: its live probe failed: no answer",
        ),
    ] {
        let mut world = World::with_images(&[&web]);
        world.step();
        world.started("shop.web.1.1");
        if unhealthy {
            (0..2).for_each(|_| world.checked("shop.web.1.1", Kind::Live, false));
            world.step();
        }
        let exit = Exit { code: exit.0, out_of_memory: exit.1 };
        world.observed.exited(&id("shop.web.1.1"), exit, world.now_ms);
        let container = world.observed.container(&id("shop.web.1.1")).unwrap();
        assert_eq!(container.how_it_ended(), expected);
    }
}

#[test]
fn checks_are_bounded_and_the_oldest_come_first() {
    let web = with_live("web", 1);
    let mut world = World::with_images(&[&web]);
    let instances = 1..=40;
    world.wanted = instances
        .clone()
        .map(|slot| (format!("shop.web.{slot}").parse().unwrap(), web.clone()))
        .collect();
    world.step();
    for slot in instances.rev() {
        world.now_ms += 1;
        world.started(&format!("shop.web.{slot}.1"));
    }
    let begun = world.step();
    assert_eq!(begun.len(), MAX_CHECKS);
    assert_eq!(begun[0], "live probe of shop.web.40.1");
    assert_eq!(world.step(), [""; 0]);
    // An end makes a place free.
    world.checked("shop.web.39.1", Kind::Live, true);
    assert_eq!(world.step(), [format!("live probe of shop.web.{}.1", 40 - MAX_CHECKS)]);
}

#[test]
fn checks_that_hang_take_no_places_of_others_as_long_as_they_are_not_too_many() {
    let web = with_live("web", 1);
    let mut world = World::with_images(&[&web]);
    let instances = 1..=100;
    world.wanted = instances
        .clone()
        .map(|slot| (format!("shop.web.{slot}").parse().unwrap(), web.clone()))
        .collect();
    while !world.step().is_empty() {}
    for slot in instances {
        world.started(&format!("shop.web.{slot}.1"));
    }
    let mut hanging = 0;
    while hanging < MAX_SLOW_CHECKS {
        assert_eq!(world.step().len(), MAX_CHECKS);
        hanging += MAX_CHECKS;
        let slow_at = world.now_ms + SLOW_CHECK_MS;
        assert_eq!(world.decide().wake_at_ms, Some(slow_at), "a place becomes free by itself");
        world.now_ms = slow_at;
    }
    assert_eq!(world.step().len(), MAX_CHECKS);
    world.now_ms += SLOW_CHECK_MS;
    assert_eq!((world.step().len(), world.decide().wake_at_ms), (0, None), "an end is awaited");
}

#[test]
fn what_is_not_wanted_or_not_checked_wakes_nobody() {
    let (web, plain_db) = (with_live("web", 1), plain("db", 1));
    let mut world = World::with_images(&[&web, &plain_db]);
    world.step();
    world.started("shop.web.1.1");
    world.started("shop.db.1.1");
    world.wanted = wanted(&[&plain_db]);
    assert_eq!(world.step(), ["stop shop.web.1.1"]);
    assert_eq!(world.decide().wake_at_ms, None);
    // A check that ends late changes nothing.
    world.checked("shop.web.1.1", Kind::Live, false);
    assert_eq!(world.step(), [""; 0]);
}

#[test]
fn healthy_dependencies_are_waited_for() {
    let on = DependencyCondition::ServiceHealthy;
    let web = depending("web", "db", on);
    let db = with_live("db", 1);
    let mut world = World::with_images(&[&db, &web]);
    world.step();
    let waits = "shop.web.1.1 waiting: waits for shop.db.1 to be healthy";
    assert_eq!(world.statuses()[1], waits);
    world.started("shop.db.1.1");
    assert_eq!(world.step(), ["live probe of shop.db.1.1"]);
    assert_eq!(world.statuses()[1], waits);
    world.checked("shop.db.1.1", Kind::Live, true);
    assert_eq!(world.step(), ["start shop.web.1.1"]);

    // Ready is part of it, and enough of it.
    let db = spec("db", 1, |spec| spec.probes.ready = Some(probe(1_000, 1)));
    let mut world = World::with_images(&[&db, &web]);
    world.step();
    world.started("shop.db.1.1");
    world.checked("shop.db.1.1", Kind::Ready, false);
    world.step();
    assert_eq!(world.statuses()[1], waits);
    world.checked("shop.db.1.1", Kind::Ready, true);
    assert_eq!(world.step(), ["start shop.web.1.1"]);
}

#[test]
fn a_dependency_that_will_not_be_healthy_is_told() {
    let on = DependencyCondition::ServiceHealthy;
    let optional = |service: &str| {
        spec("web", 2, |spec| {
            let service = service.parse().unwrap();
            spec.depends_on.push(Dependency {
                service,
                condition: on,
                restart: false,
                required: false,
            });
        })
    };
    // Without any check.
    let db = plain("db", 1);
    for (web, expected) in [
        (
            depending("web", "db", on),
            "shop.web.1.1 waiting: waits for shop.db.1 to be healthy, but it has no health check; \
             give it one, or wait for `service_started`",
        ),
        (optional("db"), "shop.web.1.1 creating"),
    ] {
        let mut world = World::with_images(&[&db, &web]);
        world.step();
        world.started("shop.db.1.1");
        assert_eq!(world.statuses()[1], expected);
    }
    // Given up on.
    let db = spec("db", 1, |spec| {
        spec.probes.live = Some(probe(1_000, 1));
        spec.restart.condition = RestartCondition::None;
    });
    for (web, expected) in [
        (
            depending("web", "db", on),
            "shop.web.1.1 waiting: waits for shop.db.1 to be healthy, but it failed and is not \
             tried again",
        ),
        (optional("db"), "shop.web.1.1 creating"),
    ] {
        let mut world = World::with_images(&[&db, &web]);
        world.step();
        world.started("shop.db.1.1");
        world.exit("shop.db.1.1", 1);
        assert_eq!(world.statuses()[1], expected);
    }
}

#[test]
fn what_was_found_running_is_checked_as_soon_as_its_rules_are_known() {
    let web = with_live("web", 1);
    let mut world = World::of(&[&web]);
    world.observed.snapshot(&[running("shop.web.1.7", &web)], T0, T0);
    world.observed.learn_specs(|_| Some(web.spec.clone()));
    world.observed.begin_checks(T0);
    // Its image may have a health check too.
    assert_eq!(world.step(), ["prepare web:1"]);
    world.observed.image_ready(&web.spec.image, None);
    world.observed.begin_checks(T0);
    assert_eq!(world.step(), ["live probe of shop.web.1.7"]);
    world.checked("shop.web.1.7", Kind::Live, true);
    // Another snapshot, of a keeper that was lost: what is known stays.
    world.observed.snapshot(&[running("shop.web.1.7", &web)], T0 + 5, T0 + 5);
    assert_eq!(health(&world), [(Some(Health::Healthy), None, 0)]);
}
