//! Leaving in order: what stops together stops after those that depend on it, also over nodes.
//!
//! In: services that people stopped, or whose application they removed; what nodes say that they run. Out:
//! which of them go on for now. On one node the agent keeps the order; here it is kept where a service
//! and one that depends on it are on different nodes. Nobody waits for a node that cannot be reached. The
//! order is not kept in the store: after a restart of the controller the rest stops at once.

use std::collections::{BTreeMap, BTreeSet};

use limpet_protocol::application::{Application, Service};
use limpet_protocol::id::{ApplicationName, NodeId, ServiceName};
use limpet_protocol::phase::Phase;

use crate::plan::{ServiceKey, Standing};
use crate::rollout::dependencies_first;
use crate::world::World;

/// An application that stops in order.
#[derive(Debug, Default)]
pub(crate) struct Leaving {
    /// Services that go on for now.
    held: BTreeSet<ServiceName>,
    /// Where its services are, as far as nodes that can be reached still say so.
    nodes: Nodes,
    /// It is in the store no more.
    removed: bool,
}

type Nodes = BTreeMap<ServiceName, BTreeSet<NodeId>>;

impl World {
    /// Which services of an application have to go on though it says that they stop.
    pub(crate) fn hold_back(&mut self, application: &Application) -> BTreeSet<ServiceName> {
        let name = &application.name;
        if !application.services.values().any(|service| service.stopped) {
            self.leaving.remove(name);
            return BTreeSet::new();
        }
        let mut leaving = self.leaving.remove(name).unwrap_or_default();
        for service in application.services.keys() {
            let key = ServiceKey { application: name.clone(), service: service.clone() };
            let placed = self.planner.places(&key).map(|(id, _)| id.clone());
            let nodes = leaving.nodes.entry(service.clone()).or_default();
            nodes.extend(placed);
        }
        self.forget_who_left(name, &mut leaving.nodes);
        leaving.held = held_back(&application.services, &leaving.nodes);
        let held = leaving.held.clone();
        if !held.is_empty() || leaving.removed {
            self.leaving.insert(name.clone(), leaving);
        }
        held
    }

    /// Keeps the nodes that can be reached and say that they run something of a service.
    fn forget_who_left(&self, name: &ApplicationName, nodes: &mut Nodes) {
        for (service, nodes) in nodes {
            nodes.retain(|id| {
                let node = self.fleet.get(id).filter(|node| node.standing == Standing::Ready);
                node.is_some_and(|node| {
                    node.instances.values().any(|status| {
                        status.instance.application == *name
                            && status.instance.service == *service
                            && !matches!(status.phase, Phase::Completed | Phase::Failed)
                    })
                })
            });
        }
    }

    /// An application was removed.
    pub(crate) fn leave(&mut self, name: &ApplicationName) {
        if !self.leaves_in_order(name) {
            self.remove_application(name);
        }
    }

    /// Stops in order what a removed application runs. Whether there is an order to be kept.
    fn leaves_in_order(&mut self, name: &ApplicationName) -> bool {
        let Some(known) = self.applications.get(name) else { return false };
        let mut record = known.record.clone();
        record.application.services.values_mut().for_each(|service| service.stopped = true);
        if self.hold_back(&record.application).is_empty() {
            self.leaving.remove(name);
            return false;
        }
        self.leaving.entry(name.clone()).or_default().removed = true;
        self.put_application(record);
        true
    }

    /// Stops what has nobody left that depends on it.
    pub(crate) fn advance_leaving(&mut self) {
        let names: Vec<ApplicationName> = self.leaving.keys().cloned().collect();
        for name in names {
            let Some(known) = self.applications.get(&name) else {
                self.leaving.remove(&name);
                continue;
            };
            let record = known.record.clone();
            let before = self.leaving.get(&name).map(|leaving| leaving.held.clone());
            let held = self.hold_back(&record.application);
            if held.is_empty() && self.leaving.remove(&name).is_some_and(|it| it.removed) {
                self.remove_application(&name);
            } else if before.as_ref() != Some(&held) {
                self.put_application(record);
            }
        }
    }
}

/// Services that stop and have others that depend on them, stop too and are somewhere else. What a held
/// one depends on is held with it.
fn held_back(services: &BTreeMap<ServiceName, Service>, nodes: &Nodes) -> BTreeSet<ServiceName> {
    let order = dependencies_first(services);
    let none = BTreeSet::new();
    let nodes_of = |name: &ServiceName| nodes.get(name).unwrap_or(&none);
    let mut held = BTreeSet::new();
    // Of a ring nobody waits for who comes earlier.
    for (at, name) in order.iter().enumerate().rev() {
        let depends = |other: &ServiceName| {
            services.get(other).is_some_and(|service| {
                service.stopped && service.spec.depends_on.iter().any(|one| one.service == **name)
            })
        };
        let waits_for = |other: &ServiceName| {
            let (own, theirs) = (nodes_of(name), nodes_of(other));
            let apart = own.union(theirs).count() > 1;
            !theirs.is_empty() && (apart || held.contains(other))
        };
        let stops = services.get(*name).is_some_and(|service| service.stopped);
        let later = order.iter().skip(at + 1);
        if stops && later.into_iter().any(|other| depends(other) && waits_for(other)) {
            held.insert((*name).clone());
        }
    }
    held
}

#[cfg(test)]
mod tests {
    use limpet_protocol::application::Mode;
    use limpet_protocol::spec::{Dependency, DependencyCondition, ImageSource, Spec};

    use super::*;

    fn service(name: &str, after: &[&str], stopped: bool) -> (ServiceName, Service) {
        let name: ServiceName = name.parse().unwrap();
        let mut spec = Spec::new("a".parse().unwrap(), name.clone(), ImageSource::new("i"));
        spec.depends_on.extend(after.iter().map(|other| Dependency {
            service: other.parse().unwrap(),
            condition: DependencyCondition::ServiceStarted,
            restart: false,
            required: true,
        }));
        let service = Service::new(spec, Mode::Replicated { replicas: 1 });
        (name, Service { stopped, ..service })
    }

    #[test]
    fn who_is_needed_elsewhere_goes_last() {
        let nodes = |all: &[(&str, &str)]| -> Nodes {
            let one = |(service, nodes): &(&str, &str)| {
                let nodes = nodes.split(' ').filter(|it| !it.is_empty());
                (service.parse().unwrap(), nodes.map(|it| it.parse().unwrap()).collect())
            };
            all.iter().map(one).collect()
        };
        let chain = |stopped: [bool; 3]| -> BTreeMap<ServiceName, Service> {
            let [db, app, web] = stopped;
            [service("db", &[], db), service("app", &["db"], app), service("web", &["app"], web)]
                .into()
        };
        let all = [true; 3];
        for (stopped, nodes, held) in [
            (all, nodes(&[("db", "n1"), ("app", "n1"), ("web", "n1")]), ""),
            (all, nodes(&[("db", "n1"), ("app", "n1"), ("web", "n2")]), "app db"),
            (all, nodes(&[("db", "n1"), ("app", "n2"), ("web", "n2")]), "db"),
            (all, nodes(&[("db", "n1"), ("app", "n2"), ("web", "")]), "db"),
            (all, nodes(&[("db", "n1 n2"), ("app", "n1 n2"), ("web", "")]), "db"),
            (all, nodes(&[("db", "n1")]), ""),
            // Who goes on is not waited for.
            ([true, false, false], nodes(&[("db", "n1"), ("app", "n2"), ("web", "n3")]), ""),
        ] {
            let found = held_back(&chain(stopped), &nodes);
            let found: Vec<&str> = found.iter().map(ServiceName::as_str).collect();
            assert_eq!(found.join(" "), held, "{stopped:?} {nodes:?}");
        }
        let ring = [service("a", &["b"], true), service("b", &["a"], true)].into();
        let held = held_back(&ring, &nodes(&[("a", "n1"), ("b", "n2")]));
        assert_eq!(held.len(), 1, "one of a ring goes first");
    }
}
