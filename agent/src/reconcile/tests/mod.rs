//! Tables: what is wanted and observed → the exact list of actions and the phases; and the property
//! that from any state the node gets to what is wanted and then does nothing.

mod health;
mod property;
mod schedule;
mod updates;

use super::*;
use crate::health::Outcome;
use crate::runtime::{ContainerState, ContainerStatus};
use limpet_protocol::spec::{
    Attachment, Dependency, DependencyCondition, RestartCondition, RestartPolicy,
};

const T0: u64 = 1_000_000;

fn spec(service: &str, version: u8, change: impl FnOnce(&mut Spec)) -> WantedInstance {
    let image = ImageSource::new(format!("{service}:{version}"));
    let mut spec = Spec::new("shop".parse().unwrap(), service.parse().unwrap(), image);
    change(&mut spec);
    let mut hash = [version; 32];
    hash[..service.len()].copy_from_slice(service.as_bytes());
    WantedInstance::new(SpecHash(hash), Arc::new(spec))
}

fn plain(service: &str, version: u8) -> WantedInstance {
    spec(service, version, |_| {})
}

fn depending(service: &str, on: &str, condition: DependencyCondition) -> WantedInstance {
    spec(service, 1, |spec| {
        let service = on.parse().unwrap();
        spec.depends_on.push(Dependency { service, condition, restart: false, required: true });
    })
}

fn wanted(instances: &[&WantedInstance]) -> Wanted {
    let id = |want: &WantedInstance| format!("shop.{}.1", want.spec.service).parse().unwrap();
    instances.iter().map(|want| (id(want), (*want).clone())).collect()
}

fn id(text: &str) -> ContainerId {
    text.parse().unwrap()
}

fn ended(code: i32) -> Exit {
    Exit { code: Some(code), out_of_memory: false }
}

/// A world where everything asked for happens when the test says so.
struct World {
    wanted: Wanted,
    observed: Observed,
    now_ms: u64,
}

impl World {
    fn of(instances: &[&WantedInstance]) -> Self {
        Self { wanted: wanted(instances), observed: Observed::default(), now_ms: T0 }
    }

    /// A world where these images are there.
    fn with_images(instances: &[&WantedInstance]) -> Self {
        let mut world = Self::of(instances);
        for want in instances {
            world.observed.image_ready(&want.spec.image, None);
        }
        world
    }

    fn decide(&self) -> Decision {
        reconcile(&self.wanted, &self.observed, self.now_ms)
    }

    /// Decides, marks the actions as begun and shows them.
    fn step(&mut self) -> Vec<String> {
        let actions = self.decide().actions;
        for action in &actions {
            self.observed.apply(action, self.now_ms);
        }
        actions.iter().map(shown).collect()
    }

    fn statuses(&self) -> Vec<String> {
        let shown = |status: &Status| {
            let reason = status.reason.as_ref().map(|reason| format!(": {reason}"));
            let Status { instance, attempt, phase, .. } = status;
            format!("{instance}.{attempt} {phase}{}", reason.unwrap_or_default())
        };
        self.decide().statuses.iter().map(shown).collect()
    }

    fn started(&mut self, container: &str) {
        self.observed.started(&id(container), 1, self.now_ms);
    }

    /// Ends a check that was begun just now.
    fn checked(&mut self, container: &str, kind: Kind, passed: bool) {
        let outcome =
            if passed { Outcome::Passed } else { Outcome::Failed("no answer".to_owned()) };
        self.observed.checked(&id(container), kind, &outcome, (self.now_ms, self.now_ms));
    }

    fn exit(&mut self, container: &str, code: i32) {
        self.observed.exited(&id(container), ended(code), self.now_ms);
    }
}

fn shown(action: &Action) -> String {
    match action {
        Action::PrepareImage(image) => format!("prepare {}", image.reference),
        Action::Start { id, .. } => format!("start {id}"),
        Action::Stop { id, .. } => format!("stop {id}"),
        Action::Remove { id } => format!("remove {id}"),
        Action::Check { id, kind, .. } => format!("{} of {id}", kind.as_str()),
    }
}

#[test]
fn a_container_with_a_network_waits_until_the_node_has_addresses() {
    let web = spec("web", 1, |spec| {
        spec.network.networks = [("front".parse().unwrap(), Attachment::default())].into();
    });
    let mut world = World::with_images(&[&web, &plain("alone", 1)]);
    world.observed.set_lacks_addresses(true);
    assert_eq!(world.step(), ["start shop.alone.1.1"]);
    let [_, web] = world.statuses().try_into().unwrap();
    assert!(web.starts_with("shop.web.1.1 waiting: waits for addresses"), "{web}");
    world.observed.set_lacks_addresses(false);
    assert_eq!(world.step(), ["start shop.web.1.1"]);
}

#[test]
fn an_instance_is_pulled_made_and_kept() {
    let web = plain("web", 1);
    let mut world = World::of(&[&web]);
    assert_eq!(world.statuses(), ["shop.web.1.1 pulling"]);
    assert_eq!(world.step(), ["prepare web:1"]);
    assert_eq!(world.step(), [""; 0]);
    world.observed.image_ready(&web.spec.image, None);
    assert_eq!(world.step(), ["start shop.web.1.1"]);
    assert_eq!(world.statuses(), ["shop.web.1.1 creating"]);
    world.started("shop.web.1.1");
    assert_eq!(world.statuses(), ["shop.web.1.1 running"]);
    assert_eq!(
        world.decide(),
        Decision { statuses: world.decide().statuses, ..Decision::default() }
    );
}

#[test]
fn a_killed_container_is_replaced_at_once_and_a_crash_loop_slows_down() {
    let web = plain("web", 1);
    let mut world = World::with_images(&[&web]);
    world.step();
    let mut waits = Vec::new();
    for attempt in 1..=5 {
        let container = format!("shop.web.1.{attempt}");
        world.started(&container);
        world.step();
        world.exit(&container, 1);
        let begun = world.now_ms;
        while world.decide().actions.is_empty() {
            assert_eq!(
                world.statuses(),
                [format!(
                    "shop.web.1.{} waiting: ended with exit code 1; starts again after a pause",
                    attempt + 1
                )]
            );
            world.now_ms = world.decide().wake_at_ms.unwrap();
        }
        assert_eq!(world.step(), [format!("start shop.web.1.{}", attempt + 1)]);
        waits.push(world.now_ms - begun);
    }
    assert_eq!(waits, [0, 100, 200, 400, 800]);
    // Only the newest ended one is left, until its successor runs.
    world.started("shop.web.1.6");
    assert_eq!(world.step(), ["remove shop.web.1.5"]);
    // It lasted: its past is forgotten.
    world.now_ms += 60_000;
    world.exit("shop.web.1.6", 137);
    assert_eq!(world.step(), ["start shop.web.1.7"]);
}

#[test]
fn the_restart_policy_ends_it() {
    let job = spec("job", 1, |spec| {
        spec.restart = RestartPolicy {
            condition: RestartCondition::OnFailure,
            delay_ms: 50,
            max_attempts: Some(1),
            window_ms: 10_000,
        };
    });
    let mut world = World::with_images(&[&job]);
    world.step();
    world.observed.create_failed(&id("shop.job.1.1"), "no such file", world.now_ms);
    let reason = "could not be made: no such file; starts again after a pause";
    assert_eq!(world.statuses(), [format!("shop.job.1.2 waiting: {reason}")]);
    assert_eq!(world.decide().wake_at_ms, Some(T0 + 50));
    world.now_ms += 50;
    assert_eq!(world.step(), ["start shop.job.1.2"]);
    world.started("shop.job.1.2");
    world.exit("shop.job.1.2", 3);
    assert_eq!(world.statuses(), ["shop.job.1.2 failed: ended with exit code 3"]);
    world.step();
    assert_eq!(world.decide().wake_at_ms, None);

    let mut world = World::with_images(&[&job]);
    world.step();
    world.started("shop.job.1.1");
    world.exit("shop.job.1.1", 0);
    assert_eq!(world.statuses(), ["shop.job.1.1 completed"]);
    assert_eq!(world.step(), [""; 0]);
}

#[test]
fn a_changed_spec_replaces_only_when_the_new_one_can_start() {
    let (old, new) = (plain("web", 1), plain("web", 2));
    let mut world = World::with_images(&[&old]);
    world.step();
    world.started("shop.web.1.1");
    world.wanted = wanted(&[&new]);
    assert_eq!(world.step(), ["prepare web:2"]);
    world.observed.image_failed(&new.spec.image, "no such image", world.now_ms);
    assert_eq!(
        world.statuses(),
        ["shop.web.1.2 pulling: no such image; attempt 1, of the version before, runs on"]
    );
    let at_ms = world.decide().wake_at_ms.unwrap();
    assert!((T0 + 750..=T0 + 1_000).contains(&at_ms), "{at_ms}");
    world.now_ms = at_ms;
    assert_eq!(world.step(), ["prepare web:2"]);
    world.observed.image_ready(&new.spec.image, None);
    assert_eq!(world.step(), ["stop shop.web.1.1"]);
    assert_eq!(world.statuses(), ["shop.web.1.2 creating: waits for the end of attempt 1"]);
    world.exit("shop.web.1.1", 143);
    assert_eq!(world.step(), ["start shop.web.1.2"]);
    world.started("shop.web.1.2");
    assert_eq!(world.step(), ["remove shop.web.1.1"]);
}

#[test]
fn an_image_that_fails_is_tried_ever_more_slowly() {
    let web = plain("web", 1);
    let mut world = World::of(&[&web]);
    let mut waits = Vec::new();
    for _ in 0..4 {
        assert_eq!(world.step(), ["prepare web:1"]);
        world.observed.image_failed(&web.spec.image, "no route", world.now_ms);
        let at_ms = world.decide().wake_at_ms.unwrap();
        waits.push(at_ms - world.now_ms);
        world.now_ms = at_ms;
        assert_eq!(world.statuses(), ["shop.web.1.1 pulling: no route"]);
    }
    for (wait, longest) in waits.iter().zip([1_000, 2_000, 4_000, 8_000]) {
        assert!((longest / 4 * 3..=longest).contains(wait), "{waits:?}");
    }
}

#[test]
fn dependencies_order_the_first_start() {
    use DependencyCondition::{ServiceCompletedSuccessfully, ServiceStarted};
    let (db, web) = (plain("db", 1), depending("web", "db", ServiceStarted));
    let mut world = World::with_images(&[&db, &web]);
    assert_eq!(world.step(), ["start shop.db.1.1"]);
    assert_eq!(
        world.statuses(),
        ["shop.db.1.1 creating", "shop.web.1.1 waiting: waits for shop.db.1 to start"]
    );
    world.started("shop.db.1.1");
    assert_eq!(world.step(), ["start shop.web.1.1"]);
    // A restart waits for nobody.
    world.started("shop.web.1.1");
    world.wanted = wanted(&[&plain("db", 2), &web]);
    world.exit("shop.web.1.1", 1);
    assert!(world.step().contains(&"start shop.web.1.2".to_owned()));
    let once = spec("init", 1, |spec| spec.restart.condition = RestartCondition::None);
    let web = depending("web", "init", ServiceCompletedSuccessfully);
    for (code, expected) in [
        (0, "shop.web.1.1 creating"),
        (
            1,
            "shop.web.1.1 waiting: waits for shop.init.1 to complete successfully, but it failed and is not tried again",
        ),
    ] {
        let mut world = World::with_images(&[&once, &web]);
        assert_eq!(world.step(), ["start shop.init.1.1"]);
        world.started("shop.init.1.1");
        assert_eq!(world.step(), [""; 0]);
        world.exit("shop.init.1.1", code);
        world.step();
        assert_eq!(world.statuses()[1], expected);
    }
    // Of what is not on this node the controller says when it is so far.
    let mut alone = World::with_images(&[&web]);
    assert_eq!(alone.step(), [""; 0]);
    assert_eq!(
        alone.statuses(),
        ["shop.web.1.1 waiting: waits for shop.init to complete successfully, which has no \
          instance on this node"]
    );
    let unjudged = WantedInstance { met: None, ..web.clone() };
    assert_eq!(World::with_images(&[&unjudged]).step(), ["start shop.web.1.1"], "as ever before");
    let met = WantedInstance { met: Some(vec!["init".parse().unwrap()]), ..web };
    alone.wanted = wanted(&[&met]);
    assert_eq!(alone.step(), ["start shop.web.1.1"]);
}

#[test]
fn what_nobody_wants_ends_dependants_first() {
    let db = plain("db", 1);
    let web = depending("web", "db", DependencyCondition::ServiceStarted);
    let mut world = World::with_images(&[&db, &web]);
    world.step();
    world.started("shop.db.1.1");
    world.step();
    world.started("shop.web.1.1");
    world.wanted.clear();
    assert_eq!(world.step(), ["stop shop.web.1.1"]);
    assert_eq!(
        world.statuses(),
        [
            "shop.db.1.1 stopping: waits for shop.web.1, which depends on it, to end",
            "shop.web.1.1 stopping: no longer assigned to this node"
        ]
    );
    world.exit("shop.web.1.1", 0);
    assert_eq!(world.step(), ["stop shop.db.1.1", "remove shop.web.1.1"]);
    world.exit("shop.db.1.1", 0);
    world.observed.removed(&id("shop.web.1.1"));
    assert_eq!(world.step(), ["remove shop.db.1.1"]);
    world.observed.removed(&id("shop.db.1.1"));
    world.observed.forget(&world.wanted);
    assert_eq!(world.statuses(), [""; 0]);
    // It comes back: no number is used twice.
    world.wanted = wanted(&[&db]);
    world.observed.image_ready(&db.spec.image, None);
    assert_eq!(world.step(), ["start shop.db.1.2"]);
}

#[test]
fn how_the_tries_went_outlives_the_agent() {
    let flaky = spec("web", 1, |spec| {
        spec.restart = RestartPolicy {
            condition: RestartCondition::Any,
            delay_ms: 0,
            max_attempts: Some(1),
            window_ms: 10_000,
        };
    });
    let mut before = World::with_images(&[&flaky]);
    for attempt in [1, 2] {
        assert_eq!(before.step(), [format!("start shop.web.1.{attempt}")]);
        before.started(&format!("shop.web.1.{attempt}"));
        before.exit(&format!("shop.web.1.{attempt}"), 1);
    }
    let kept = serde_json::to_vec(&before.observed.past()).unwrap();
    let mut after = World::with_images(&[&flaky]);
    let past = serde_json::from_slice(&kept).unwrap();
    after.observed = Observed::new(before.observed.attempts().clone(), past);
    // Far out of the window, which goes back from the end and not from now.
    after.now_ms += 3_600_000;
    let mut found = running("shop.web.1.2", &flaky);
    found.status = ContainerStatus::Exited(ended(1));
    after.observed.snapshot(&[found], after.now_ms, after.now_ms);
    assert_eq!(after.step(), [""; 0]);
    assert_eq!(after.statuses(), ["shop.web.1.2 failed: ended with exit code 1"]);
    // Another version begins anew.
    let mended = WantedInstance { spec_hash: SpecHash([9; 32]), ..flaky };
    after.wanted = wanted(&[&mended]);
    after.observed.image_ready(&mended.spec.image, None);
    assert_eq!(after.step(), ["start shop.web.1.3"]);
    assert_eq!(after.decide().statuses[0].failures, 0);
}

#[test]
fn a_ring_of_dependencies_does_not_hold_itself_up() {
    let on = DependencyCondition::ServiceStarted;
    let (a, b) = (depending("a", "b", on), depending("b", "a", on));
    let mut world = World::with_images(&[&a, &b]);
    let states = [("shop.a.1.1", &a), ("shop.b.1.1", &b)].map(|(name, want)| running(name, want));
    world.observed.snapshot(&states, T0, T0);
    let (a, b) = (a.clone(), b.clone());
    world.observed.learn_specs(|hash| {
        [&a, &b].into_iter().find(|w| w.spec_hash == *hash).map(|w| w.spec.clone())
    });
    world.wanted.clear();
    assert_eq!(world.step(), ["stop shop.a.1.1", "stop shop.b.1.1"]);
}

fn running(name: &str, want: &WantedInstance) -> ContainerState {
    ContainerState {
        id: id(name),
        spec_hash: want.spec_hash,
        status: ContainerStatus::Running { pid: 1 },
        started_ms: T0 - 5_000,
        stop_signal: None,
    }
}

#[test]
fn what_runs_already_is_adopted() {
    let web = plain("web", 1);
    let mut world = World::with_images(&[&web]);
    world.observed.snapshot(&[running("shop.web.1.7", &web)], T0, T0);
    assert_eq!(world.step(), [""; 0]);
    assert_eq!(world.statuses(), ["shop.web.1.7 running"]);
    // Its end while the keeper was away is news, and the next number follows.
    let mut gone = running("shop.web.1.7", &web);
    gone.status = ContainerStatus::Exited(Exit { code: None, out_of_memory: false });
    world.observed.snapshot(&[gone], T0, T0);
    assert_eq!(world.step(), ["start shop.web.1.8"]);
    // Two of one slot: the newest of the right spec stays.
    let two = [running("shop.web.1.8", &web), running("shop.web.1.9", &web)];
    world.observed.snapshot(&two, T0, T0);
    assert_eq!(world.step(), ["stop shop.web.1.8"]);
}

#[test]
fn a_decision_is_bounded_and_says_that_there_is_more() {
    let web = plain("web", 1);
    let mut world = World::with_images(&[&web]);
    world.wanted =
        (1..=200).map(|slot| (format!("shop.web.{slot}").parse().unwrap(), web.clone())).collect();
    let decision = world.decide();
    assert_eq!((decision.actions.len(), decision.wake_at_ms), (MAX_ACTIONS, Some(T0)));
    let mut started = 0;
    while !world.decide().actions.is_empty() {
        started += world.step().len();
    }
    assert_eq!(started, 200);
}
