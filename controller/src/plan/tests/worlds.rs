//! Random worlds: nodes join, leave, shrink, are cordoned, drained and lost; services change, end,
//! move. Whatever happens, the plan keeps the rules, and looking at everything again changes
//! nothing.

use limpet_protocol::phase::Phase;
use limpet_protocol::report::InstanceStatus;

use super::jobs::status;
use super::*;
use crate::store::records::Availability;

/// A step of a random life of a fleet.
#[derive(Debug, Clone)]
enum Step {
    Want(usize, Box<Wanted>),
    Drop(usize),
    Node(usize, Box<Node>),
    Remove(usize),
    /// The so-many-th move takes its next step.
    Advance(usize),
    /// The so-many-th instance ends.
    End(usize, bool),
}

fn wants() -> impl Strategy<Value = Wanted> {
    let mode = prop_oneof![
        4 => (0..8_u32).prop_map(|replicas| Mode::Replicated { replicas }),
        1 => Just(Mode::Global),
        2 => (1..6_u32, 1..4_u32)
            .prop_map(|(completions, parallelism)| Mode::ReplicatedJob { completions, parallelism }),
        1 => Just(Mode::GlobalJob),
    ];
    let rules = (
        proptest::option::of(1..3_u32),
        proptest::option::of(any::<bool>()),
        any::<bool>(),
        prop_oneof![4 => Just(0_i32), 1 => 1..3_i32],
    );
    let needs = (0..50_u64, 0..3_u32, any::<bool>(), any::<bool>());
    let rest = (0..3_u32, any::<bool>(), 0..4_u32, 1..3_u8, prop::bool::weighted(0.1));
    (mode, rules, needs, rest).prop_map(|(mode, rules, needs, rest)| {
        let (most, site, spread, priority) = rules;
        let (memory, ports, device, volume) = needs;
        let (parallelism, start_first, ending, spec, stopped) = rest;
        let mut wanted = Wanted::new(SpecHash([spec; 32]), mode);
        wanted.placement.max_replicas_per_node = most;
        wanted.placement.constraints = site
            .into_iter()
            .map(|equal| constraint(Attribute::Label("site".into()), equal, "north"))
            .collect();
        wanted.placement.spread = if spread { vec!["site".into()] } else { vec![] };
        wanted.priority = priority;
        wanted.needs.memory_bytes = memory << 20;
        let claim = |range| PortClaim { udp: false, address: None, range };
        wanted.claims = match ports {
            0 => vec![],
            1 => vec![claim((80, 80))],
            _ => vec![claim((8000, 8002))],
        };
        wanted.devices = if device { vec!["/dev/x".into()] } else { vec![] };
        wanted.volumes = if volume { vec!["v".into()] } else { vec![] };
        wanted.drain = Pace { parallelism, start_first };
        wanted.ending = match ending {
            _ if mode.is_job() => Ending::Any,
            0 | 1 => Ending::Never,
            2 => Ending::Success,
            _ => Ending::Any,
        };
        wanted.stopped = stopped;
        wanted
    })
}

fn nodes() -> impl Strategy<Value = Node> {
    let standing = prop_oneof![
        4 => Just(Standing::Ready),
        1 => Just(Standing::Unreachable),
        1 => Just(Standing::Lost)
    ];
    let availability = prop_oneof![
        4 => Just(Availability::Active),
        1 => Just(Availability::Pause),
        1 => Just(Availability::Drain)
    ];
    let devices =
        prop_oneof![Just(None), Just(Some(vec![])), Just(Some(vec!["/dev/x".to_owned()]))];
    (0..150_u64, any::<bool>(), standing, availability, devices).prop_map(
        |(memory, north, standing, availability, devices)| {
            let mut node = node(memory, if north { "north" } else { "south" });
            node.facts.devices = devices;
            Node { standing, availability, ..node }
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4_usize, wants()).prop_map(|(service, wanted)| Step::Want(service, Box::new(wanted))),
        1 => (0..4_usize).prop_map(Step::Drop),
        5 => (0..5_usize, nodes()).prop_map(|(number, node)| Step::Node(number, Box::new(node))),
        1 => (0..5_usize).prop_map(Step::Remove),
        4 => (0..8_usize).prop_map(Step::Advance),
        3 => (0..16_usize, any::<bool>()).prop_map(|(which, well)| Step::End(which, well)),
    ]
}

/// Of one node: memory, instances, ranges of ports.
type Taken = (u64, usize, Vec<(u16, u16)>);

type Places = BTreeSet<(ServiceKey, NodeId, Slot)>;

/// What the planner was told, kept apart from it.
#[derive(Default)]
struct Told {
    services: BTreeMap<ServiceKey, Wanted>,
    nodes: BTreeMap<NodeId, Node>,
    /// Where each slot with a volume ran first.
    homes: BTreeMap<(ServiceKey, Slot), NodeId>,
}

/// What a step was about.
#[derive(Default)]
struct About {
    service: Option<ServiceKey>,
    node: Option<NodeId>,
    moved: bool,
}

impl Told {
    fn tell(&mut self, planner: &mut Planner, step: Step) -> About {
        match step {
            Step::Want(service, wanted) => self.want(planner, service, Some(*wanted)),
            Step::Drop(service) => self.want(planner, service, None),
            Step::Node(number, node) => {
                let name = id(&format!("n{number}"));
                planner.set_node(&name, (*node).clone());
                self.nodes.insert(name.clone(), *node);
                About { node: Some(name), ..About::default() }
            }
            Step::Remove(number) => {
                let name = id(&format!("n{number}"));
                planner.remove_node(&name);
                self.nodes.remove(&name);
                self.homes.retain(|_, home| *home != name);
                About { node: Some(name), ..About::default() }
            }
            Step::Advance(which) => {
                let found = planner.moves().nth(which);
                let found = found.map(|(key, slot, step)| (key.clone(), slot, step.stage));
                match found {
                    Some((key, slot, Stage::Leaving)) => planner.left(&key, slot),
                    Some((key, slot, Stage::Coming { .. })) => planner.arrived(&key, slot),
                    None => {}
                }
                About { moved: true, ..About::default() }
            }
            Step::End(which, well) => self.end(planner, which, well),
        }
    }

    fn want(&mut self, planner: &mut Planner, service: usize, wanted: Option<Wanted>) -> About {
        let key = key(&format!("s{service}"));
        if wanted.as_ref().is_none_or(|wanted| !wanted.has_home()) {
            self.homes.retain(|(other, _), _| *other != key);
        }
        match wanted {
            Some(wanted) => self.services.insert(key.clone(), wanted),
            None => self.services.remove(&key),
        };
        planner.set_application(&"a".parse().unwrap(), self.services.clone());
        About { service: Some(key), ..About::default() }
    }

    fn end(&self, planner: &mut Planner, which: usize, well: bool) -> About {
        let Some((key, node, slot)) = self.places(planner).into_iter().nth(which) else {
            return About::default();
        };
        let phase = if well { Phase::Completed } else { Phase::Failed };
        let spec = self.services[&key].spec;
        let told = status(key.service.as_str(), slot.0, phase);
        let over = planner.report(&node, &InstanceStatus { spec, ..told }, None);
        assert!(!over || planner.progress().is_over(&key, &node, slot));
        About { service: Some(key), ..About::default() }
    }

    fn places(&self, planner: &Planner) -> Places {
        let of = |key: &ServiceKey| {
            let places = planner.places(key);
            places.map(|(id, slot)| (key.clone(), id.clone(), slot)).collect::<Vec<_>>()
        };
        self.services.keys().flat_map(of).collect()
    }

    /// Every rule that holds of any plan.
    fn check(&mut self, planner: &Planner) {
        let mut used: BTreeMap<NodeId, Taken> = BTreeMap::new();
        for (key, wanted) in &self.services {
            let mut own: BTreeMap<&NodeId, u32> = BTreeMap::new();
            for (id, slot) in planner.places(key) {
                let node = &self.nodes[id];
                assert_eq!(filter::lasting_misfit(wanted, id, node), None, "{key} on {id}");
                let usage = used.entry(id.clone()).or_default();
                usage.1 += 1;
                if planner.progress().is_over(key, id, slot) {
                    continue;
                }
                *own.entry(id).or_default() += 1;
                usage.0 += wanted.needs.memory_bytes;
                usage.2.extend(wanted.claims.iter().map(|claim| claim.range));
                if wanted.has_home() {
                    let home = self.homes.entry((key.clone(), slot)).or_insert_with(|| id.clone());
                    assert_eq!(home, id, "{key}.{slot} left its data");
                }
            }
            let most = wanted.placement.max_replicas_per_node.unwrap_or(u32::MAX);
            assert!(own.values().all(|own| *own <= most), "{key}: {own:?}");
            self.check_slots(planner, key, wanted);
            self.check_moves(planner, key, wanted);
        }
        for (id, node) in &self.nodes {
            let (memory, instances, ports) = used.remove(id).unwrap_or_default();
            assert!(memory <= node.facts.memory_bytes, "{id} is overfull");
            let known = planner.usage(id);
            assert_eq!((known.memory_bytes, known.instances), (memory, instances));
            for range in [(80, 80), (8000, 8002)] {
                let taken = ports.iter().filter(|taken| **taken == range).count();
                assert!(
                    taken <= usize::from(range.1 - range.0) + 1,
                    "{id} has {range:?} {taken} times"
                );
            }
            for share in planner.share(id) {
                let key = ServiceKey { application: share.application, service: share.service };
                for slot in share.slots {
                    let over = planner.progress().is_over(&key, id, slot);
                    assert_eq!(over, share.done.contains(&slot));
                }
            }
        }
    }

    fn check_slots(&self, planner: &Planner, key: &ServiceKey, wanted: &Wanted) {
        let open = planner.unplaced(key);
        assert!(open.iter().all(|open| !open.reason.is_empty()));
        if wanted.stopped {
            return assert_eq!(planner.places(key).count(), 0);
        }
        let progress = planner.progress();
        let active = planner.places(key).filter(|(id, slot)| !progress.is_over(key, id, *slot));
        let Some(slots) = wanted.mode.slots() else {
            for (id, node) in &self.nodes {
                let matches = filter::lasting_misfit(wanted, id, node).is_none()
                    && filter::standing_misfit(node).is_none();
                let there = planner.places(key).any(|(other, _)| other == id);
                let explained = open.iter().any(|open| open.node.as_ref() == Some(id));
                let over = progress.is_over(key, id, Slot(1));
                assert!(!matches || there || explained || over, "{key} on {id}");
                assert!(!there || node.availability != Availability::Drain, "{key} on {id}");
            }
            return;
        };
        let active: BTreeSet<Slot> = active.map(|(_, slot)| slot).collect();
        let nowhere = open.iter().filter(|open| open.node.is_none()).count();
        let over = progress.get(key).map_or(0, |progress| {
            let over = progress.done.iter().chain(progress.failed.keys());
            over.filter(|slot| slot.0 <= slots).count()
        });
        let mut expected = slots as usize - over;
        if let Mode::ReplicatedJob { parallelism, .. } = wanted.mode {
            expected = expected.min(parallelism as usize);
            assert!(active.iter().all(|slot| slot.0 <= slots));
        }
        assert_eq!(active.len() + nowhere, expected, "{key}");
    }

    /// A slot is on two nodes only while it moves and the old one is to stay.
    fn check_moves(&self, planner: &Planner, key: &ServiceKey, wanted: &Wanted) {
        if wanted.mode.is_global() {
            return;
        }
        let mut on: BTreeMap<Slot, Vec<&NodeId>> = BTreeMap::new();
        for (id, slot) in planner.places(key) {
            on.entry(slot).or_default().push(id);
        }
        let moves: BTreeMap<Slot, &Move> = planner
            .moves()
            .filter(|(of, ..)| *of == key)
            .map(|(_, slot, step)| (slot, step))
            .collect();
        for (slot, nodes) in &on {
            let both = Stage::Coming { old_stays: true };
            let may = moves.get(slot).is_some_and(|step| step.stage == both);
            assert!(nodes.len() == 1 || (nodes.len() == 2 && may), "{key}.{slot} is on {nodes:?}");
        }
        for (slot, step) in moves {
            assert!(on[&slot].contains(&&step.to));
            let told = |id: &NodeId| {
                let share = planner.share(id);
                share.iter().any(|s| s.service == key.service && s.slots.contains(&slot))
            };
            if step.stage == Stage::Leaving {
                assert!(!told(&step.from) && !told(&step.to), "{key}.{slot} runs nowhere");
            }
        }
    }

    /// Nothing goes, comes or begins to move without a reason.
    fn check_changes(&self, planner: &Planner, before: &Before, about: &About) {
        let after = self.places(planner);
        let priority =
            |key: &ServiceKey| self.services.get(key).map_or(0, |wanted| wanted.priority);
        let new: Vec<_> = after.difference(&before.places).collect();
        for (key, id, _) in &new {
            let node = &self.nodes[id];
            assert_eq!(filter::standing_misfit(node), None, "{key} is new on {id}");
        }
        for (key, id, slot) in before.places.difference(&after) {
            let gives = self.nodes.get(id).is_none_or(Node::gives);
            let anew = |place: &(ServiceKey, NodeId, Slot)| {
                new.contains(&place) || about.service.as_ref() == Some(&place.0)
            };
            let pushed = after
                .iter()
                .any(|place| place.1 == *id && priority(&place.0) > priority(key) && anew(place));
            let told = about.service.as_ref() == Some(key) || about.node.as_ref() == Some(id);
            let over = planner.progress().is_over(key, id, *slot);
            // The target of a move whose origin came to an end is given up.
            let moved = about.moved || before.moving.contains(&(key.clone(), *slot));
            assert!(gives || pushed || told || over || moved, "{key}.{slot} went from {id}");
        }
        for (key, wanted) in &self.services {
            let count = |moving: &BTreeSet<(ServiceKey, Slot)>| {
                moving.iter().filter(|(of, _)| of == key).count()
            };
            let (now, then) = (count(&moving(planner)), count(&before.moving));
            assert!(now <= wanted.drain.at_once().max(then), "{key}: {now} are on the move");
        }
    }
}

/// What was before a step.
struct Before {
    places: Places,
    moving: BTreeSet<(ServiceKey, Slot)>,
}

fn moving(planner: &Planner) -> BTreeSet<(ServiceKey, Slot)> {
    planner.moves().map(|(key, slot, _)| (key.clone(), slot)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 512, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_the_rules_hold(steps in proptest::collection::vec(step(), 1..40)) {
        let mut planner = Planner::default();
        let mut told = Told::default();
        for step in steps {
            let before = Before { places: told.places(&planner), moving: moving(&planner) };
            let shares: BTreeMap<NodeId, _> =
                told.nodes.keys().map(|id| (id.clone(), planner.share(id))).collect();
            let about = told.tell(&mut planner, step);
            let changes = planner.plan();
            told.check(&planner);
            told.check_changes(&planner, &before, &about);
            for (id, share) in shares.iter().filter(|(id, _)| told.nodes.contains_key(*id)) {
                let changed = changes.nodes.contains(id) || planner.share(id) == *share;
                prop_assert!(changed, "the share of {} changed and nobody said so", id);
            }
            prop_assert_eq!(planner.plan(), Changes::default());
            // Looking only at what changed finds all that looking at everything finds.
            planner.look_at_everything();
            prop_assert_eq!(planner.plan().nodes, BTreeSet::new());
            told.check(&planner);
        }
    }
}
