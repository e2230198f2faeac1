//! The resolved tree → the application. Each part of a spec has a file of its own; all of them
//! read through a [`Reader`], which knows where it is.
//!
//! A value that Limpet cannot honour is an error here, a value that it takes otherwise than Docker
//! a warning; both with their places.

mod autoscale;
mod contents;
mod dependencies;
mod deploy;
mod health;
mod hooks;
mod image;
mod job;
mod mounts;
mod network;
mod ports;
mod probe;
mod process;
mod reader;
mod resources;
mod restart;
mod schedule;
mod security;
mod update;
mod waves;

use std::collections::BTreeMap;

use limpet_protocol::application::{Application, Service};
use limpet_protocol::codec;
use limpet_protocol::id::{ApplicationName, ServiceName};
use limpet_protocol::limits::MAX_SPEC_BYTES;
use limpet_protocol::spec::Spec;

use crate::Diagnostic;
use crate::canonical::join;
use crate::diagnostic::Problems;
use crate::node::{Node, Value};
use crate::project::services;
use reader::Reader;

pub(crate) use contents::sources;
pub(crate) use schedule::schedules;
pub(crate) use waves::windows;

/// Makes the application; it counts only if no error was found.
pub(crate) fn application(tree: &Node, name: &str, problems: &mut Problems) -> Application {
    let application = application_name(name, problems);
    let networks = network::declared(tree, &application, problems);
    let whole = Whole { tree, application: &application, networks: &networks };
    let mut lowered = BTreeMap::new();
    for (name, node) in services(tree) {
        let path = format!("services.{name}");
        let mut reader = Reader { node, path, problems };
        match ServiceName::new(name) {
            Ok(name) => {
                let service = service(&whole, &name, &mut reader);
                lowered.insert(name, service);
            }
            Err(error) => reader.fail(node, format!("{name:?} is no name for a service: {error}")),
        }
    }
    report_volumes(tree, problems);
    let mut application = Application { name: application, services: lowered };
    network::check_joins(tree, &mut application, problems);
    network::link(tree, &mut application, problems);
    network::check_fixed(tree, &application, problems);
    check_size(tree, &application, problems);
    application
}

/// What each service is a part of.
struct Whole<'a> {
    tree: &'a Node,
    application: &'a ApplicationName,
    networks: &'a network::Networks,
}

/// The name was checked when it was found; a folder's name was made to fit.
fn application_name(name: &str, problems: &mut Problems) -> ApplicationName {
    if let Ok(name) = ApplicationName::new(name) {
        return name;
    }
    problems.push(Diagnostic::error(format!("{name:?} is no name for a project")));
    let fallback = ApplicationName::new("default");
    assert!(fallback.is_ok(), "`default` keeps the rule of names");
    fallback.unwrap_or_else(|_| unreachable!("checked in the line before"))
}

fn service(whole: &Whole, name: &ServiceName, reader: &mut Reader) -> Service {
    let Whole { tree, application, networks } = *whole;
    refuse_nul(reader.node, &reader.path, reader.problems);
    let network = network::network(reader, networks);
    let image = image::image(reader);
    let mode = deploy::mode(reader);
    let restart = restart::restart(reader);
    let volumes = mounts::mounts(tree, application, name, reader);
    let (configs, secrets) = contents::mounts(&volumes, reader);
    let spec = Spec {
        process: process::process(reader),
        resources: resources::resources(reader),
        security: security::security(reader),
        mounts: volumes,
        configs,
        secrets,
        devices: mounts::devices(reader),
        network,
        ports: ports::ports(reader),
        restart: job::finish(reader, mode, restart),
        stop: restart::stop(reader),
        log: restart::log(reader),
        depends_on: dependencies::dependencies(tree, reader),
        labels: reader.labels("labels"),
        annotations: reader.labels("annotations"),
        healthcheck: health::health(reader),
        probes: probe::probes(reader),
        hooks: hooks::hooks(reader),
        ..Spec::new(application.clone(), name.clone(), image)
    };
    let placement = deploy::placement(reader);
    let labels = reader.labels("deploy.labels");
    let priority = deploy::priority(reader);
    let waves = waves::policy(reader);
    let mut update = update::policy(reader, "update_config");
    if waves.is_some() && reader.get("deploy.update_config.max_failure_ratio").is_none() {
        // Waves have rules of their own for what is too much.
        update.max_failure_ppm = update::ALL_PPM;
    }
    let rollback = update::policy(reader, "rollback_config");
    let service = Service::new(spec, mode);
    let mut service = Service { placement, labels, priority, update, rollback, waves, ..service };
    autoscale::apply(reader, &mut service);
    service
}

fn check_size(tree: &Node, application: &Application, problems: &mut Problems) {
    for (name, node) in services(tree) {
        let service = application.services.iter().find(|(it, _)| it.as_str() == name);
        let Some((_, service)) = service else { continue };
        if codec::encode_within(&service.spec, MAX_SPEC_BYTES).is_err() {
            let message = format!("the service is larger than {MAX_SPEC_BYTES} bytes");
            let path = format!("services.{name}");
            problems.push(Diagnostic::error(message).at(&node.place).key(path));
        }
    }
}

/// The kernel ends every text at a NUL: none of them can be passed on.
fn refuse_nul(node: &Node, path: &str, problems: &mut Problems) {
    let nul = |text: &str| text.contains('\0');
    match &node.value {
        Value::Text(text) if nul(text) => {
            let message = "a text must not contain the character NUL";
            problems.push(Diagnostic::error(message).at(&node.place).key(path));
        }
        Value::Sequence(items) => {
            for (index, item) in items.iter().enumerate() {
                refuse_nul(item, &format!("{path}[{index}]"), problems);
            }
        }
        Value::Mapping(mapping) => {
            for (name, entry) in mapping {
                let path = join(path, name);
                if nul(name) {
                    let message = "a name must not contain the character NUL";
                    problems.push(Diagnostic::error(message).at(&entry.key).key(&path));
                }
                refuse_nul(&entry.node, &path, problems);
            }
        }
        _ => {}
    }
}

fn report_volumes(tree: &Node, problems: &mut Problems) {
    let volumes = tree.get("volumes").and_then(Node::as_mapping);
    for (name, entry) in volumes.into_iter().flatten() {
        let Some(driver) = entry.node.get("driver") else { continue };
        if driver.scalar().is_some_and(|driver| driver != "local") {
            let path = format!("volumes.{name}.driver");
            let message = format!("there is no volume driver {}", driver.kind());
            let advice = "volumes are folders on the node: mount what the driver would mount on the \
                 node and use a bind mount";
            problems.push(Diagnostic::error(message).at(&driver.place).key(path).advice(advice));
        }
    }
}

#[cfg(test)]
mod tests;
