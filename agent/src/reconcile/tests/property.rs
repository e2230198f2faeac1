//! From any state the node gets to what is wanted and then does nothing; and whatever happens in
//! whatever order, a slot never has more containers than its order allows.

use limpet_protocol::assignment::UpdateOrder;
use proptest::prelude::*;

use super::health::probe;
use super::*;
use crate::image::PreparedImage;
use crate::runtime::fake::FakeRuntime;
use crate::runtime::{ContainerRequest, Runtime as _, RuntimeEvent};

/// One container of an arbitrary state: slot, attempt, version, what it does.
fn any_container() -> impl Strategy<Value = (u8, u32, u8, u8)> {
    (0..4_u8, 1..4_u32, 1..3_u8, 0..4_u8)
}

/// One wanted service: its version (0 is not wanted), on whom it depends, and how it restarts.
fn any_service() -> impl Strategy<Value = (u8, u8, u8)> {
    (0..3_u8, 0..5_u8, 0..3_u8)
}

const SERVICES: [&str; 4] = ["a", "b", "c", "d"];

fn arbitrary_wanted(services: &[(u8, u8, u8)]) -> Wanted {
    let mut instances = Vec::new();
    for (at, (version, on, restart)) in services.iter().enumerate() {
        if *version == 0 {
            continue;
        }
        // Of what is not on the node the controller says that it is so far.
        let elsewhere = services.iter().zip(SERVICES).filter(|((version, ..), _)| *version == 0);
        let met = Some(elsewhere.map(|(_, name)| name.parse().unwrap()).collect());
        let want = spec(SERVICES[at], *version, |spec| {
            // Only on earlier ones: rings are refused before they come here.
            if usize::from(*on) < at {
                let service = SERVICES[usize::from(*on)].parse().unwrap();
                let condition = DependencyCondition::ServiceStarted;
                spec.depends_on.push(Dependency {
                    service,
                    condition,
                    restart: false,
                    required: true,
                });
            }
            spec.restart.condition =
                [RestartCondition::Any, RestartCondition::OnFailure, RestartCondition::None]
                    [usize::from(*restart)];
        });
        instances.push(WantedInstance { met, ..want });
    }
    wanted(&instances.iter().collect::<Vec<_>>())
}

fn arbitrary_state((at, attempt, version, what): (u8, u32, u8, u8)) -> ContainerState {
    let service = SERVICES[usize::from(at)];
    ContainerState {
        id: id(&format!("shop.{service}.1.{attempt}")),
        spec_hash: plain(service, version).spec_hash,
        status: match what {
            0 => ContainerStatus::Exited(ended(0)),
            1 => ContainerStatus::Exited(ended(1)),
            _ => ContainerStatus::Running { pid: 1 },
        },
        started_ms: T0 - 1_000,
        stop_signal: None,
    }
}

/// A version whose ready probe never passes.
const NEVER_READY: u8 = 3;

/// Whether the checks of a container of this spec pass.
fn passes(world: &World, id: &ContainerId) -> bool {
    let container = world.observed.container(id);
    container.is_some_and(|container| container.spec_hash.0[31] != NEVER_READY)
}

/// Hears what happened on the fake runtime.
fn hear(world: &mut World, runtime: &mut FakeRuntime) {
    while let Some(event) = runtime.poll_event() {
        match event {
            RuntimeEvent::Snapshot(states) => {
                world.observed.snapshot(&states, world.now_ms, world.now_ms);
            }
            RuntimeEvent::Started { id, pid } => world.observed.started(&id, pid, world.now_ms),
            RuntimeEvent::Exited { id, exit } => world.observed.exited(&id, exit, world.now_ms),
            RuntimeEvent::Removed { id } => world.observed.removed(&id),
            other => panic!("{other:?}"),
        }
    }
}

/// Does one thing on the fake runtime.
fn perform(world: &mut World, runtime: &mut FakeRuntime, action: &Action) {
    world.observed.apply(action, world.now_ms);
    match action {
        Action::PrepareImage(image) => world.observed.image_ready(image, None),
        Action::Start { id, spec_hash, spec, .. } => {
            let image = Arc::new(PreparedImage {
                digest: String::new(),
                check: None,
                config: Default::default(),
                layers: Vec::new(),
            });
            let (id, spec) = (id.clone(), spec.clone());
            runtime
                .start(&ContainerRequest { id, spec, spec_hash: *spec_hash, image, network: None })
                .unwrap();
        }
        Action::Stop { id, .. } => runtime.stop(id, 15, 1).unwrap(),
        Action::Remove { id } => runtime.remove(id).unwrap(),
        Action::Check { id, kind, .. } => {
            let (name, passed) = (id.to_string(), passes(world, id));
            world.checked(&name, *kind, passed);
        }
    }
}

/// Does what is decided until nothing is decided any more.
fn converge(world: &mut World, runtime: &mut FakeRuntime) {
    for _ in 0..200 {
        hear(world, runtime);
        let decision = world.decide();
        for action in &decision.actions {
            perform(world, runtime, action);
        }
        if decision.actions.is_empty() {
            match decision.wake_at_ms {
                Some(at_ms) => world.now_ms = at_ms.max(world.now_ms + 1),
                None => return,
            }
        }
    }
    panic!("it does not come to rest: {:?}", world.statuses());
}

proptest! {
    #[test]
    fn from_any_state_it_comes_to_what_is_wanted_and_rests(
        services in proptest::collection::vec(any_service(), 4),
        containers in proptest::collection::vec(any_container(), 0..8),
    ) {
        let mut states: Vec<ContainerState> = containers.into_iter().map(arbitrary_state).collect();
        states.sort_by(|a, b| a.id.cmp(&b.id));
        states.dedup_by(|a, b| a.id == b.id);
        let kept = states.clone();
        let mut world = World::of(&[]);
        world.wanted = arbitrary_wanted(&services);
        let mut runtime = FakeRuntime::new(states);
        converge(&mut world, &mut runtime);

        let live = |instance: &InstanceId| -> Vec<&ContainerState> {
            let of = runtime.containers.values().filter(|c| c.id.instance == *instance);
            of.filter(|c| matches!(c.status, ContainerStatus::Running { .. })).collect()
        };
        for container in runtime.containers.values() {
            prop_assert!(world.wanted.contains_key(&container.id.instance), "{} is left", container.id);
        }
        for (instance, want) in &world.wanted {
            let live = live(instance);
            let done = world.decide().statuses.iter().any(|status| {
                status.instance == *instance && status.phase.is_final() && status.spec == want.spec_hash
            });
            prop_assert!(live.len() == 1 || (done && live.is_empty()), "{instance}: {live:?}");
            prop_assert!(live.iter().all(|c| c.spec_hash == want.spec_hash));
            // What ran right was never touched, unless there were two.
            let right = kept.iter().filter(|c| {
                c.id.instance == *instance
                    && c.spec_hash == want.spec_hash
                    && matches!(c.status, ContainerStatus::Running { .. })
            });
            if let Some(newest) = right.map(|c| &c.id).max() {
                prop_assert_eq!(&live[0].id, newest);
            }
        }
    }
}

/// What is wanted of the one slot of a story: a version, in which order, and whether it is done.
fn any_want() -> impl Strategy<Value = (u8, bool, bool)> {
    (1..=NEVER_READY, any::<bool>(), proptest::bool::weighted(0.1))
}

fn want_of((version, start_first, done): (u8, bool, bool)) -> WantedInstance {
    let want = spec("web", version, |spec| spec.probes.ready = Some(probe(1_000, 2)));
    let order = if start_first { UpdateOrder::StartFirst } else { UpdateOrder::StopFirst };
    WantedInstance { order, done, ..want }
}

/// The containers of the one slot of a story: attempt, whether it is live, whether it does well.
fn containers(world: &World) -> Vec<(u32, bool, bool)> {
    let slot = world.observed.slots.get(&"shop.web.1".parse().unwrap());
    let all = slot.into_iter().flat_map(|slot| &slot.containers);
    all.map(|c| (c.attempt, c.is_live(), c.is_well())).collect()
}

/// Checks one action of a story against what was there before it.
fn allowed(world: &World, want: &WantedInstance, action: &Action) -> Result<(), TestCaseError> {
    let before = containers(world);
    let live = before.iter().filter(|(_, live, _)| *live).count();
    let start_first = want.order == UpdateOrder::StartFirst;
    match action {
        Action::Start { .. } => {
            prop_assert!(!want.done, "what is done is not started");
            prop_assert!(live <= usize::from(start_first), "{live} live before a start");
        }
        Action::Stop { id, .. } if start_first && !want.done => {
            let well = |attempt| before.iter().any(|it| it.0 == attempt && it.2);
            let other = before.iter().any(|it| it.0 != id.attempt && it.2);
            prop_assert!(!well(id.attempt) || other, "the only one that does well is stopped");
        }
        _ => {}
    }
    Ok(())
}

proptest! {
    /// Whatever is wanted in whatever order, with containers that end in between: what is started and
    /// stopped keeps the order, and in the end what is wanted runs alone.
    #[test]
    fn updates_keep_their_order(
        story in proptest::collection::vec((any_want(), 0..6_u8, any::<bool>()), 1..12),
        last in (1..NEVER_READY, any::<bool>()),
    ) {
        let mut world = World::of(&[]);
        let mut runtime = FakeRuntime::default();
        for (want, rounds, ends) in story {
            let want = want_of(want);
            world.wanted = wanted(&[&want]);
            for _ in 0..rounds {
                hear(&mut world, &mut runtime);
                let decision = world.decide();
                for action in &decision.actions {
                    allowed(&world, &want, action)?;
                    perform(&mut world, &mut runtime, action);
                }
                world.now_ms += 300;
            }
            let ending = ends.then(|| runtime.containers.keys().next_back().cloned()).flatten();
            if let Some(id) = ending.filter(|id| world.observed.container(id).is_some_and(Container::is_live)) {
                runtime.exit(&id, ended(1));
            }
        }
        world.wanted = wanted(&[&want_of((last.0, last.1, false))]);
        for _ in 0..100 {
            hear(&mut world, &mut runtime);
            for action in &world.decide().actions {
                perform(&mut world, &mut runtime, action);
            }
            world.now_ms += 10_000;
        }
        let live: Vec<_> = containers(&world).into_iter().filter(|it| it.1).collect();
        prop_assert!(live.len() == 1 && live[0].2, "{live:?}");
        let statuses = world.decide().statuses;
        prop_assert_eq!((statuses[0].phase, statuses[0].ready), (Phase::Running, Some(true)));
        prop_assert_eq!(statuses[0].spec.0[31], last.0);
    }
}
