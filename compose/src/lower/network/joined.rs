//! `network_mode: service:NAME`: each instance shares the network of the other service's instance in the
//! same slot, on the same node.
//!
//! That can be only if there is such an instance for each: the other service has as many, runs as long as
//! it is wanted, and has a network of its own.

use limpet_protocol::application::{Application, Mode};
use limpet_protocol::id::ServiceName;
use limpet_protocol::spec::{Dependency, DependencyCondition, NetworkMode};

use super::super::reader::Reader;
use crate::diagnostic::Problems;
use crate::node::Node;
use crate::project::services;
use crate::units;

const KEY: &str = "network_mode";

/// Checks all services that join others, and has them follow those.
pub(crate) fn check_joins(tree: &Node, application: &mut Application, problems: &mut Problems) {
    for (name, node) in services(tree) {
        let Ok(name) = ServiceName::new(name) else { continue };
        let joins = |name: &ServiceName| application.services.get(name)?.spec.network.joins.clone();
        let Some(joined) = joins(&name) else { continue };
        let Some(at) = node.get(KEY) else { continue };
        let path = format!("services.{name}");
        let mut reader = Reader { node, path, problems: &mut *problems };
        let mut reader = reader.at(KEY);
        if let Err((message, advice)) = fits(application, &name, &joined) {
            reader.refuse(at, message, &advice);
            continue;
        }
        if let Some(service) = application.services.get_mut(&name) {
            follow(&mut service.spec.depends_on, joined);
        }
    }
}

type Wrong = (String, String);

fn fits(application: &Application, name: &ServiceName, joined: &ServiceName) -> Result<(), Wrong> {
    let all = &application.services;
    let (Some(own), Some(other)) = (all.get(name), all.get(joined)) else {
        let near = units::nearest(joined.as_str(), all.keys().map(ServiceName::as_str));
        let advice = match near {
            Some(near) => format!("did you mean `service:{near}`?"),
            None => "name it under `services:`, or turn its profile on".to_owned(),
        };
        return Err((format!("there is no service `{joined}`"), advice));
    };
    if name == joined {
        let message = "a service cannot share its own network".to_owned();
        return Err((message, "name another service, or remove it".to_owned()));
    }
    if let Some(further) = &other.spec.network.joins {
        let message = format!("`{joined}` itself shares the network of `{further}`");
        return Err((message, format!("write `service:{further}` if that is meant")));
    }
    if other.spec.network.mode == NetworkMode::Host {
        let message = format!("`{joined}` has the node's network");
        return Err((message, "write `network_mode: host` here too".to_owned()));
    }
    if own.mode.is_job() || other.mode.is_job() {
        let message = "a network is shared by services that run on, not by jobs".to_owned();
        return Err((message, "put both into one service".to_owned()));
    }
    if own.mode != other.mode {
        let message = format!("it has {}, `{joined}` has {}", count(own.mode), count(other.mode));
        return Err((message, "have as many of both: each shares the network of one".to_owned()));
    }
    Ok(())
}

fn count(mode: Mode) -> String {
    match mode.slots() {
        Some(1) => "1 instance".to_owned(),
        Some(slots) => format!("{slots} instances"),
        None => "one instance on each node".to_owned(),
    }
}

/// The network goes with the container that made it: what shares it is restarted after it.
fn follow(depends_on: &mut Vec<Dependency>, joined: ServiceName) {
    match depends_on.iter_mut().find(|known| known.service == joined) {
        Some(known) => known.restart = true,
        None => depends_on.push(Dependency {
            service: joined,
            condition: DependencyCondition::ServiceStarted,
            restart: true,
            required: true,
        }),
    }
}
