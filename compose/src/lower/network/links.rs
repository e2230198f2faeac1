//! `links`: `SERVICE` or `SERVICE:NAME`, a further name for a service in the networks that both take part
//! in.
//!
//! Docker gives that name to the container that has the link alone. Here everybody in the network may ask
//! for it, so a name that would mean two services there is refused.

use std::collections::BTreeSet;

use limpet_protocol::application::Application;
use limpet_protocol::dns_name;
use limpet_protocol::id::{NetworkName, ServiceName};
use limpet_protocol::limits::MAX_ALIASES_PER_NETWORK;

use super::super::reader::Reader;
use crate::diagnostic::Problems;
use crate::node::Node;
use crate::project::services;
use crate::units;

/// Gives services the names that links of others ask for.
pub(crate) fn link(tree: &Node, application: &mut Application, problems: &mut Problems) {
    for (name, node) in services(tree) {
        let Ok(name) = ServiceName::new(name) else { continue };
        let path = format!("services.{name}");
        let mut reader = Reader { node, path, problems: &mut *problems };
        for (index, item) in reader.items("links").iter().enumerate() {
            let text = item.scalar().unwrap_or_default();
            if let Err((message, advice)) = one(application, &name, text) {
                reader.at(&format!("links[{index}]")).refuse(item, message, &advice);
            }
        }
    }
}

type Wrong = (String, String);

fn one(application: &mut Application, name: &ServiceName, text: &str) -> Result<(), Wrong> {
    let (target, alias) = text.split_once(':').unwrap_or((text, text));
    let Some((target, service)) =
        application.services.iter().find(|(known, _)| known.as_str() == target)
    else {
        let known = application.services.keys().map(ServiceName::as_str);
        let advice = match units::nearest(target, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "write SERVICE or SERVICE:NAME of a service of this file".to_owned(),
        };
        return Err((format!("there is no service `{target}`"), advice));
    };
    let own = application.services.get(name).map(|own| &own.spec.network.networks);
    let own: BTreeSet<&NetworkName> = own.into_iter().flat_map(|own| own.keys()).collect();
    let both: Vec<NetworkName> =
        service.spec.network.networks.keys().filter(|key| own.contains(key)).cloned().collect();
    if both.is_empty() {
        let message = format!("`{name}` and `{target}` have no network in common");
        return Err((message, "give both the same network under `networks`".to_owned()));
    }
    if alias == target.as_str() {
        return Ok(());
    }
    if let Err(error) = dns_name::check(alias) {
        let message = format!("{alias:?} is no name for DNS: {error}");
        return Err((message, "write SERVICE:NAME".to_owned()));
    }
    let target = target.clone();
    if let Some(other) = bearer(application, &target, &both, alias) {
        let message = format!("`{alias}` is `{other}` in a network that both take part in");
        return Err((message, "take a name that means one service only".to_owned()));
    }
    let Some(service) = application.services.get_mut(&target) else { return Ok(()) };
    for network in both {
        let aliases = service.spec.network.networks.entry(network).or_default();
        if !aliases.aliases.iter().any(|known| known == alias) {
            aliases.aliases.push(alias.to_owned());
        }
        if aliases.aliases.len() > MAX_ALIASES_PER_NETWORK {
            let message = format!("`{target}` has more than {MAX_ALIASES_PER_NETWORK} names");
            return Err((message, "ask for it by its own name".to_owned()));
        }
    }
    Ok(())
}

/// Another service that has the name already.
fn bearer(
    application: &Application,
    target: &ServiceName,
    both: &[NetworkName],
    alias: &str,
) -> Option<ServiceName> {
    let mut others = application.services.iter().filter(|(known, _)| *known != target);
    let found = others.find(|(known, service)| {
        let mut there = service
            .spec
            .network
            .networks
            .iter()
            .filter(|(network, _)| both.contains(network))
            .map(|(_, attachment)| attachment)
            .peekable();
        let is_there = there.peek().is_some();
        is_there
            && (known.as_str() == alias
                || there.any(|it| it.aliases.iter().any(|known| known == alias)))
    });
    found.map(|(known, _)| known.clone())
}
