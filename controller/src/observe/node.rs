//! What is known of one node: its record, its link, its newest report, its events. No clock.
//!
//! In: decoded messages of the node. Out: what is news in them. Late and repeated messages are
//! dropped here, so that nobody else has to know of them.

use std::collections::{BTreeMap, BTreeSet};

use limpet_protocol::assignment::Generation;
use limpet_protocol::event::{Cursor, Event, EventBatch};
use limpet_protocol::id::{InstanceId, Slot, SpecHash};
use limpet_protocol::limits::{MAX_EVENTS_PER_BATCH, MAX_INSTANCES_PER_NODE, MAX_NO_IMAGE};
use limpet_protocol::message::NodePresence;
use limpet_protocol::network::NetworkReport;
use limpet_protocol::report::{InstanceStatus, NoImage, Report};
use limpet_protocol::scale::ScaleReport;

use super::liveness::Link;
use crate::network::MAX_PEERS;
use crate::plan::{ServiceKey, Standing};
use crate::store::Revision;
use crate::store::records::NodeRecord;

/// Instances in a report: those assigned, and as many that are on their way out.
const MAX_REPORTED: usize = 2 * MAX_INSTANCES_PER_NODE;

/// See the module.
#[derive(Debug)]
pub struct ObservedNode {
    /// What the store has of it.
    pub record: NodeRecord,
    /// The revision of that.
    pub modified: Revision,
    /// Its link.
    pub link: Link,
    /// The newest assignment that it holds.
    pub observed: Option<Generation>,
    /// Specs that come next and whose images it has.
    pub staged: BTreeSet<SpecHash>,
    /// Specs whose images it could not have so far.
    pub no_image: BTreeMap<SpecHash, NoImage>,
    /// How its network fares.
    pub network: NetworkReport,
    /// What it decided about services that follow their load.
    pub scales: BTreeMap<ServiceKey, ScaleReport>,
    /// What it runs.
    pub instances: BTreeMap<InstanceId, InstanceStatus>,
    /// How it stands, as the planner and the views know it.
    pub standing: Standing,
    /// When it will be given up, by the steady clock, if the loop waits for that.
    pub waits_until_ms: Option<u64>,
    /// When anything was last heard of it, by the wall clock; 0 is never since this start.
    pub last_contact_ms: u64,
    /// (boot, sequence) of the newest report.
    newest_report: Option<(u64, u64)>,
    /// Up to where its events are kept.
    cursor: Option<Cursor>,
}

/// What a report changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ReportNews {
    /// Instances of which something is new.
    pub instances: Vec<InstanceId>,
    /// Whether it has other images of what comes next, or cannot have others.
    pub images: bool,
    /// Instances whose address is another.
    pub addressed: BTreeSet<InstanceId>,
    /// Whether it reaches other nodes than before.
    pub reaches: bool,
    /// Services of which it decided something else about their number, or nothing any more.
    pub scaled: BTreeSet<ServiceKey>,
}

impl ObservedNode {
    /// A node of which nothing was heard yet.
    #[must_use]
    pub fn unheard(record: NodeRecord, modified: Revision, now_ms: u64) -> Self {
        Self {
            record,
            modified,
            link: Link::unheard(now_ms),
            observed: None,
            staged: BTreeSet::new(),
            no_image: BTreeMap::new(),
            network: NetworkReport::default(),
            scales: BTreeMap::new(),
            instances: BTreeMap::new(),
            standing: Standing::Unreachable,
            waits_until_ms: None,
            last_contact_ms: 0,
            newest_report: None,
            cursor: None,
        }
    }

    /// A presence or will; whether it is believed.
    pub fn presence(&mut self, now_ms: u64, presence: &NodePresence) -> bool {
        let session = (presence.boot, presence.session);
        let news = self.link.is_news(session, presence.online);
        let believed = self.link.presence(now_ms, session, presence.online);
        if believed && news && presence.online {
            // The first report of a new session is taken whatever its number: an agent that lost
            // its count must be heard all the same.
            self.newest_report = None;
        }
        believed
    }

    /// A report; none if it is old, repeated or absurd.
    pub fn report(&mut self, report: Report) -> Option<ReportNews> {
        let number = (report.boot, report.sequence);
        if self.newest_report >= Some(number) || report.instances.len() > MAX_REPORTED {
            return None;
        }
        self.newest_report = Some(number);
        self.observed = report.observed;
        let staged: BTreeSet<SpecHash> = report.staged.into_iter().take(MAX_REPORTED).collect();
        let no_image = report.no_image.into_iter().take(MAX_NO_IMAGE);
        let no_image: BTreeMap<SpecHash, NoImage> = no_image.map(|it| (it.spec, it)).collect();
        let images = self.staged != staged || self.no_image != no_image;
        (self.staged, self.no_image) = (staged, no_image);
        let network = bounded(report.network.unwrap_or_default());
        let old = std::mem::replace(&mut self.network, network);
        let addressed = differences(&old.addresses, &self.network.addresses);
        let reaches = old.unreachable != self.network.unreachable;
        let scaled = self.take_scales(report.scales);
        let new: BTreeMap<InstanceId, InstanceStatus> =
            report.instances.into_iter().map(|status| (status.instance.clone(), status)).collect();
        let old = std::mem::replace(&mut self.instances, new);
        let gone = old.keys().filter(|id| !self.instances.contains_key(*id));
        let changed = self.instances.iter().filter(|(id, status)| old.get(*id) != Some(status));
        let instances = changed.map(|(id, _)| id).chain(gone).cloned().collect();
        Some(ReportNews { instances, images, addressed, reaches, scaled })
    }

    fn take_scales(&mut self, scales: Vec<ScaleReport>) -> BTreeSet<ServiceKey> {
        let named = scales.into_iter().take(MAX_REPORTED).map(|scale| {
            let (application, service) = (scale.application.clone(), scale.service.clone());
            (ServiceKey { application, service }, scale)
        });
        let old = std::mem::replace(&mut self.scales, named.collect());
        differences(&old, &self.scales)
    }

    /// The instances that it runs beside others by itself ([`Slot::beside`]).
    pub fn beside(&self) -> impl Iterator<Item = &InstanceId> {
        let instances = self.instances.keys();
        instances.filter(|instance| self.is_beside(&ServiceKey::of(instance), instance.slot))
    }

    /// Whether a slot of a service is one that the node added by itself.
    #[must_use]
    pub fn is_beside(&self, key: &ServiceKey, slot: Slot) -> bool {
        slot.home().1 > 0 && self.scales.contains_key(key)
    }

    /// Whether the load asks for so few that the node does not run this instance.
    #[must_use]
    pub fn is_idle(&self, key: &ServiceKey, slot: Slot) -> bool {
        self.scales.get(key).is_some_and(|scale| scale.idle.contains(&slot))
    }

    /// Events: those that are not kept yet, and what to acknowledge when they are. None if the
    /// batch is absurd.
    pub fn events(&mut self, batch: EventBatch) -> Option<(Vec<Event>, Cursor)> {
        let EventBatch { boot, mut events } = batch;
        if events.len() > MAX_EVENTS_PER_BATCH {
            return None;
        }
        let last = events.iter().map(|event| event.sequence).max()?;
        let after = match self.cursor {
            Some(cursor) if cursor.boot > boot => return Some((vec![], cursor)),
            Some(cursor) if cursor.boot == boot => cursor.sequence,
            _ => 0,
        };
        events.retain(|event| event.sequence > after);
        events.sort_by_key(|event| event.sequence);
        events.dedup_by_key(|event| event.sequence);
        let cursor = Cursor { boot, sequence: after.max(last) };
        Some((events, cursor))
    }

    /// The events up to here are kept.
    pub fn kept(&mut self, cursor: Cursor) {
        self.cursor = self.cursor.max(Some(cursor));
    }
}

/// As much of a report as there can be.
fn bounded(mut network: NetworkReport) -> NetworkReport {
    while network.addresses.len() > MAX_REPORTED {
        network.addresses.pop_last();
    }
    network.unreachable.truncate(MAX_PEERS);
    network
}

/// Instances that have another address in one than in the other.
fn differences<K: Ord + Clone, V: PartialEq>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
) -> BTreeSet<K> {
    let differs = |(id, value): &(&K, &V), other: &BTreeMap<K, V>| other.get(*id) != Some(*value);
    let gone = old.iter().filter(|one| differs(one, new));
    let come = new.iter().filter(|one| differs(one, old));
    gone.chain(come).map(|(id, _)| id.clone()).collect()
}
