//! The order of the services of an application: dependencies first, and who is restarted with them.

use std::collections::{BTreeMap, BTreeSet};

use limpet_protocol::application::Service;
use limpet_protocol::id::{ServiceName, SpecHash};
use limpet_protocol::spec::Spec;

/// Every service after those that it depends on. Of a ring, which is refused when it is applied,
/// the first by name that is come upon goes first: nothing may wait for itself.
#[must_use]
pub fn dependencies_first(services: &BTreeMap<ServiceName, Service>) -> Vec<&ServiceName> {
    let mut order = Vec::with_capacity(services.len());
    let mut seen = BTreeSet::new();
    for name in services.keys() {
        // A service, and the next of its dependencies to look at.
        let mut path: Vec<(&ServiceName, usize)> = vec![];
        if seen.insert(name) {
            path.push((name, 0));
        }
        while let Some((name, at)) = path.pop() {
            let next = services.get(name).and_then(|service| service.spec.depends_on.get(at));
            let Some(dependency) = next else {
                order.push(name);
                continue;
            };
            path.push((name, at + 1));
            if services.contains_key(&dependency.service) && seen.insert(&dependency.service) {
                path.push((&dependency.service, 0));
            }
        }
    }
    order
}

/// The spec of a service as nodes get it: it names the specs of those that it is restarted with, as
/// far as they are known, so that another one of theirs is another one of its own.
#[must_use]
pub fn following(service: &Service, specs: &BTreeMap<ServiceName, Option<SpecHash>>) -> Spec {
    let mut spec = service.spec.clone();
    let followed = spec.depends_on.iter().filter(|dependency| dependency.restart);
    spec.follows = followed
        .filter_map(|one| Some((one.service.clone(), specs.get(&one.service).copied()??)))
        .collect();
    spec
}

#[cfg(test)]
mod tests {
    use limpet_protocol::application::Mode;
    use limpet_protocol::spec::{Dependency, DependencyCondition, ImageSource};

    use super::*;

    fn services(all: &[(&str, &[&str])]) -> BTreeMap<ServiceName, Service> {
        let one = |(name, after): &(&str, &[&str])| {
            let name: ServiceName = name.parse().unwrap();
            let mut spec = Spec::new("a".parse().unwrap(), name.clone(), ImageSource::new("i"));
            spec.depends_on.extend(after.iter().map(|other| Dependency {
                service: other.parse().unwrap(),
                condition: DependencyCondition::ServiceStarted,
                restart: false,
                required: true,
            }));
            (name, Service::new(spec, Mode::Replicated { replicas: 1 }))
        };
        all.iter().map(one).collect()
    }

    #[test]
    fn dependencies_come_first_and_rings_end() {
        let order = |all: &[(&str, &[&str])]| {
            let services = services(all);
            let order = dependencies_first(&services);
            order.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            order(&[("a", &["b", "c"]), ("b", &["d"]), ("c", &["d"]), ("d", &[])]),
            "d b c a"
        );
        assert_eq!(order(&[("a", &["b"]), ("b", &["a", "gone"])]), "b a");
        assert_eq!(order(&[]), "");
    }
}
