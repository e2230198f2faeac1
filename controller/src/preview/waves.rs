//! In which waves instances would be updated (`deploy.x-rollout`).
//!
//! In: the instances that would be, and where. Out: the waves as the rollout would open them, if each
//! succeeds.

use std::collections::BTreeSet;

use limpet_protocol::application::{Attribute, Constraint, Service, Wave};
use limpet_protocol::id::{InstanceId, NodeId};

use super::{MAX_WAVE_NODES, Step, WavePlan};
use crate::plan::{Planner, Standing};
use crate::rollout::{Seen, Unit, in_waves, named_by};

/// The waves of a service whose instances are updated by these steps; none if it has none.
pub(super) fn waves<'a>(
    planner: &Planner,
    service: &Service,
    updated: impl Iterator<Item = &'a Step>,
) -> Vec<WavePlan> {
    let Some(policy) = service.waves.as_ref().filter(|policy| !policy.waves.is_empty()) else {
        return vec![];
    };
    let unit = |step: &Step| {
        let id: NodeId = step.node.as_ref()?.parse().ok()?;
        let instance: InstanceId = step.instance.parse().ok()?;
        let waves = planner.node(&id).map_or(0, |node| named_by(&policy.waves, &id, node));
        let reachable = planner.standing(&id) == Some(Standing::Ready);
        let unit = Unit::of(service.mode, &id, instance.slot);
        let seen = Seen { node: Some(id.clone()), reachable, waves, ..Seen::default() };
        Some((unit, id, seen))
    };
    let units: Vec<(Unit, NodeId, Seen)> = updated.filter_map(unit).collect();
    let all = units.iter().map(|(unit, _, seen)| (unit.clone(), seen.clone()));
    let node = |unit: &Unit| {
        let of_it = units.iter().find(|(other, ..)| other == unit);
        of_it.map(|(_, id, _)| id.to_string())
    };
    let wave = |(at, members): (usize, Vec<Unit>)| WavePlan {
        which: policy.waves.get(at).map_or_else(|| "all others".to_owned(), which),
        instances: u32::try_from(members.len()).unwrap_or(u32::MAX),
        nodes: {
            let first = members.iter().take(MAX_WAVE_NODES).filter_map(node);
            first.collect::<BTreeSet<_>>().into_iter().collect()
        },
    };
    in_waves(policy, all).into_iter().enumerate().map(wave).collect()
}

fn which(wave: &Wave) -> String {
    match wave {
        Wave::Nodes(all) if all.is_empty() => "every node".to_owned(),
        Wave::Nodes(all) => all.iter().map(in_words).collect::<Vec<_>>().join(" and "),
        Wave::Percent(percent) => format!("until {percent} % are updated"),
    }
}

/// A condition as the Compose file has it.
fn in_words(constraint: &Constraint) -> String {
    let Constraint { attribute, equal, value } = constraint;
    let attribute = match attribute {
        Attribute::Label(key) => format!("node.labels.{key}"),
        Attribute::Id => "node.id".to_owned(),
        Attribute::Hostname => "node.hostname".to_owned(),
        Attribute::Os => "node.platform.os".to_owned(),
        Attribute::Architecture => "node.platform.arch".to_owned(),
    };
    format!("{attribute} {} {value}", if *equal { "==" } else { "!=" })
}
