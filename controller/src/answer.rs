//! Answering people who ask why: what the loop knows goes to `explain`, which decides.
//!
//! Asked for an instance, a service, an application or a node, it looks at that one only; of a
//! slot without a node at every node, through the planner's own filters.

use limpet_protocol::application::Service;
use limpet_protocol::id::{ApplicationName, InstanceId, NodeId, ServiceName, Slot};

use crate::api::types::ScaleView;
use crate::explain::{
    Assigned, Case, Explanation, NetworkCase, NodeCase, Over, Part, ServiceCase,
    explain_application, explain_instance, explain_node, explain_service,
};
use crate::observe::node_view::{Told, reach};
use crate::plan::{ServiceKey, Standing};
use crate::rollout::Progress;
use crate::world::World;

/// What a person asks about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Subject {
    /// Whatever has the name: a service, an instance, an application, a node; in this order.
    #[default]
    Any,
    /// An application.
    Application,
    /// A service.
    Service,
    /// An instance.
    Instance,
    /// A node.
    Node,
}

impl World {
    /// Why something is as it is; none if there is nothing of that name.
    pub(crate) fn explain(&self, subject: Subject, name: &str) -> Option<Explanation> {
        let may_be = |one: Subject| subject == Subject::Any || subject == one;
        let service = may_be(Subject::Service).then(|| self.named_service(name)).flatten();
        if let Some((key, service)) = &service {
            return Some(self.explain_service(key, service));
        }
        if may_be(Subject::Instance)
            && let Some(part) = name.parse().ok().and_then(|id| self.explain_named_instance(&id))
        {
            return Some(Explanation::of_instance(part));
        }
        if may_be(Subject::Application)
            && let Some(explanation) = self.explain_application(name)
        {
            return Some(explanation);
        }
        let node = may_be(Subject::Node).then(|| name.parse::<NodeId>().ok()).flatten();
        node.and_then(|id| self.explain_node(&id))
    }

    fn named_service(&self, name: &str) -> Option<(ServiceKey, &Service)> {
        let (application, service) = name.split_once('.')?;
        let application: ApplicationName = application.parse().ok()?;
        let key = ServiceKey { application, service: service.parse().ok()? };
        let service = self.wanted_service(&key)?;
        Some((key, service))
    }

    fn wanted_service(&self, key: &ServiceKey) -> Option<&Service> {
        self.applications.get(&key.application)?.record.application.services.get(&key.service)
    }

    fn explain_application(&self, name: &str) -> Option<Explanation> {
        let name: ApplicationName = name.parse().ok()?;
        let known = self.applications.get(&name)?;
        let services = known.record.application.services.iter().map(|(service, wanted)| {
            let key = ServiceKey { application: name.clone(), service: service.clone() };
            self.explain_service(&key, wanted)
        });
        Some(explain_application(name.as_str(), services.collect()))
    }

    fn explain_service(&self, key: &ServiceKey, service: &Service) -> Explanation {
        let mut unplaced = self.planner.unplaced(key);
        // What the load does not ask for need not have a place.
        let asked = self.totals.total(key).unwrap_or(u32::MAX);
        unplaced.retain(|open| open.slot.0 <= asked);
        let lost =
            |id: &NodeId| self.fleet.get(id).is_none_or(|node| node.standing == Standing::Lost);
        let placed = self.planner.places(key).filter(|(id, _)| !lost(id)).count();
        let nowhere = self.planner.why_nowhere(key);
        let open = !unplaced.is_empty() || nowhere.is_some();
        let first = unplaced.first().map(|open| open.reason.clone()).or(nowhere);
        let rollout = self.rollout(key);
        let case = ServiceCase {
            key,
            service,
            spec: self.newest_spec(key),
            placed,
            unplaced: (unplaced.len(), first),
            misfits: if open { self.planner.misfits(key) } else { Vec::new() },
            rollout_is_held: rollout.as_ref().is_some_and(|it| !it.is_going()),
            rollout: rollout.map(|it| it.in_words()),
            scale: self.shown_scale(key),
        };
        explain_service(&case, self.parts_of(key))
    }

    /// How a service follows its load, as it was shown last.
    fn shown_scale(&self, key: &ServiceKey) -> Option<ScaleView> {
        self.gallery.service(key)?.scale.clone()
    }

    /// Every instance of a service: those with a node, and those without.
    fn parts_of(&self, key: &ServiceKey) -> Vec<Part> {
        let idle =
            |id: &NodeId, slot| self.fleet.get(id).is_some_and(|node| node.is_idle(key, slot));
        let run = self.planner.places(key).filter(|(id, slot)| !idle(id, *slot));
        let mut at: Vec<(Slot, Option<&NodeId>)> = run.map(|(id, slot)| (slot, Some(id))).collect();
        let asked = self.totals.total(key).unwrap_or(u32::MAX);
        let open = self.planner.unplaced(key).into_iter();
        let open = open.filter(|open| open.node.is_none() && open.slot.0 <= asked);
        at.extend(open.map(|open| (open.slot, None)));
        at.sort();
        at.into_iter().map(|(slot, id)| self.explain_placed(key, slot, id)).collect()
    }

    fn explain_placed(&self, key: &ServiceKey, slot: Slot, place: Option<&NodeId>) -> Part {
        let (application, service) = (key.application.clone(), key.service.clone());
        let instance = InstanceId { application, service, slot };
        explain_instance(&self.case(&instance, place, place))
    }

    /// An instance by its name; of a global service the one that is in the most trouble.
    fn explain_named_instance(&self, instance: &InstanceId) -> Option<Part> {
        let key = key_of(instance);
        let slot = instance.slot;
        let places = self.planner.places(&key).filter(|(_, one)| *one == slot);
        let mut parts: Vec<Part> =
            places.map(|(id, slot)| self.explain_placed(&key, slot, Some(id))).collect();
        if !parts.is_empty() {
            let late = parts.iter().position(|part| !part.well).unwrap_or(0);
            return Some(parts.swap_remove(late));
        }
        let runs = self.fleet.values().find(|node| node.instances.contains_key(instance));
        let open = self.planner.unplaced(&key).iter().any(|open| open.slot == slot);
        let has = |slots: Option<u32>| slots.is_none_or(|slots| (1..=slots).contains(&slot.0));
        let stopped = self
            .wanted_service(&key)
            .is_some_and(|service| service.stopped && has(service.mode.slots()));
        let known = runs.is_some() || open || stopped;
        known.then(|| explain_instance(&self.case(instance, None, runs.map(|it| &it.record.node))))
    }

    fn explain_node(&self, id: &NodeId) -> Option<Explanation> {
        let node = self.fleet.get(id)?;
        let case = NodeCase {
            node,
            wanted: self.dispatch.wanted(id).map(|wanted| wanted.generation),
            usage: self.planner.usage(id),
            reach: reach(node, self.reach_told(id)),
            broker_is_up: self.bus.is_up(),
            wall_ms: self.wall_ms,
        };
        let slots = self.planner.services_on(id).flat_map(|key| {
            let on = self.planner.places(key).filter(|(place, _)| *place == id);
            on.map(move |(_, slot)| self.explain_placed(key, slot, Some(id)))
        });
        Some(explain_node(&case, slots.collect()))
    }

    /// What is known of an instance that is placed at `place` and runs, if it does, at `at`.
    fn case<'a>(
        &'a self,
        instance: &'a InstanceId,
        place: Option<&'a NodeId>,
        at: Option<&'a NodeId>,
    ) -> Case<'a> {
        let key = key_of(instance);
        let service = self.wanted_service(&key);
        let unplaced = self.planner.unplaced(&key).into_iter();
        let mut unplaced = unplaced.filter(|open| open.slot == instance.slot);
        let why = unplaced.find(|open| open.node.as_ref() == place);
        Case {
            instance,
            service,
            spec: self.newest_spec(&key),
            place,
            misfits: why.as_ref().map_or_else(Vec::new, |_| self.planner.misfits(&key)),
            unplaced: why.map(|open| open.reason),
            node: at.and_then(|id| self.fleet.get(id)),
            assigned: at.map_or_else(Assigned::default, |id| self.assigned(id, instance)),
            over: self.over(&key, instance.slot, place),
            dependencies: service.map_or_else(Vec::new, |it| self.late_dependencies(&key, it)),
            network: at.map_or_else(NetworkCase::default, |id| self.network_case(&key, id)),
            rollout: self.rollout(&key).map(|it| it.in_words()),
            broker_is_up: self.bus.is_up(),
            wall_ms: self.wall_ms,
        }
    }

    /// What a node was told.
    pub(crate) fn reach_told(&self, id: &NodeId) -> Told<'_> {
        let left_out = self.fabric.peers_left_out(id);
        Told { assignment: self.dispatch.wanted(id), left_out }
    }

    /// How a service on a node takes part in networks, and which of those that it waits for are out of
    /// reach.
    fn network_case(&self, key: &ServiceKey, id: &NodeId) -> NetworkCase {
        let told = self.dispatch.wanted(id);
        let has_addresses = told.is_some_and(|told| told.network.is_some());
        let gone = self.fleet.get(id).map_or(&[][..], |node| &node.network.unreachable);
        let service = self.wanted_service(key).filter(|_| !gone.is_empty());
        let Some(service) = service else {
            return NetworkCase { has_addresses, unreached: vec![] };
        };
        let own = &service.spec.network.networks;
        let unreached = service.spec.depends_on.iter().filter_map(|on| {
            let on =
                ServiceKey { application: key.application.clone(), service: on.service.clone() };
            let theirs = &self.wanted_service(&on)?.spec.network.networks;
            let in_common = theirs.keys().any(|name| own.contains_key(name));
            let places: std::collections::BTreeSet<&NodeId> =
                self.planner.places(&on).map(|(place, _)| place).collect();
            let none = !places.is_empty() && places.iter().all(|place| gone.contains(place));
            let names: Vec<&str> = places.iter().take(4).map(|place| place.as_str()).collect();
            let sentence = || format!("{on} is on {}, which {id} does not reach", names.join(", "));
            (in_common && none).then(sentence)
        });
        NetworkCase { has_addresses, unreached: unreached.collect() }
    }

    /// How far the rollout of a service is, if it has not come to its end.
    fn rollout(&self, key: &ServiceKey) -> Option<Progress> {
        self.rollouts.progress(key).filter(|progress| !progress.is_done())
    }

    fn over(&self, key: &ServiceKey, slot: Slot, place: Option<&NodeId>) -> Option<Over<'_>> {
        let progress = self.planner.progress();
        if let Some(why) = progress.why_failed(key, place, slot) {
            return Some(Over::Failed(why));
        }
        place.filter(|id| progress.is_done(key, id, slot)).map(|_| Over::Done)
    }

    fn newest_spec(&self, key: &ServiceKey) -> Option<limpet_protocol::id::SpecHash> {
        self.applications.get(&key.application)?.specs.get(&key.service).copied().flatten()
    }

    fn assigned(&self, id: &NodeId, instance: &InstanceId) -> Assigned {
        let Some(assignment) = self.dispatch.wanted(id) else { return Assigned::default() };
        let share = assignment.services.iter().find(|share| {
            share.application == instance.application
                && share.service == instance.service
                && share.slots.contains(&instance.slot)
        });
        Assigned { generation: Some(assignment.generation), spec: share.map(|share| share.spec) }
    }

    /// Services that come first and are not as wanted, with the first reason of each.
    fn late_dependencies(&self, key: &ServiceKey, service: &Service) -> Vec<String> {
        let late = |name: &ServiceName| {
            let (application, service) = (key.application.clone(), name.clone());
            let view = self.gallery.service(&ServiceKey { application, service })?;
            let why = view.reasons.first().map_or("not as wanted yet", String::as_str);
            (!view.settled).then(|| format!("{name}: {why}"))
        };
        service.spec.depends_on.iter().filter_map(|one| late(&one.service)).collect()
    }
}

fn key_of(instance: &InstanceId) -> ServiceKey {
    let InstanceId { application, service, .. } = instance.clone();
    ServiceKey { application, service }
}
