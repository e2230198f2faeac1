//! Scaling in the loop: reads what is due, asks for metrics, and lets as many instances be wanted as were
//! decided.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use limpet_protocol::event::EventKind;
use limpet_protocol::id::{InstanceId, SpecHash};
use limpet_protocol::limits::MAX_REASON_BYTES;
use limpet_protocol::scale::{Figure, MetricTarget, Missing, ScaleReport, in_words};
use limpet_protocol::spec::Spec;
use limpet_protocol::topic::{MetricTopic, Topic};

use super::checks::{network_of, own_network};
use super::{ControlLoop, Images, Job, Wanted, WantedInstance};
use crate::ledger::Accepted;
use crate::load::sample::{Sampler, Wish};
use crate::load::{connections, traffic};
use crate::probe;
use crate::reconcile::{Container, Life, Observed};
use crate::runtime::{ContainerId, Runtime};
use crate::scale::prometheus::value_of;
use crate::scale::slots::Standing;
use crate::scale::{Change, Endpoint, Question, Scales, ServiceKey, Share};

/// How long an instance may take to tell its metrics.
const METRICS_TIMEOUT: Duration = Duration::from_secs(1);
/// Instances that are being asked at a time; the others have their turn the next time.
const MAX_ASKED: usize = 64;

/// What the loop keeps for services that follow their load.
#[derive(Debug, Default)]
pub(super) struct Scaling {
    pub(super) scales: Scales,
    sampler: Sampler,
    /// Some instances run another spec than their home until it is their turn.
    follows: bool,
    /// Who is being asked for metrics.
    asked: BTreeSet<(ContainerId, u16)>,
    /// The topics with figures that the node listens to, or would if it were connected.
    topics: BTreeSet<Topic>,
}

impl Scaling {
    /// What is listened to for figures.
    pub(super) fn filters(&self) -> impl Iterator<Item = String> + '_ {
        self.topics.iter().map(ToString::to_string)
    }

    /// Takes over which topics there are now; which of them are new, and which are gone.
    pub(super) fn choose_topics(&mut self) -> (Vec<String>, Vec<Topic>) {
        let topic = |((application, service), name)| {
            Topic::Metric(Box::new(MetricTopic { application, service, name }))
        };
        let now: BTreeSet<Topic> = self.scales.topics().into_iter().map(topic).collect();
        let before = std::mem::replace(&mut self.topics, now);
        let new = self.topics.difference(&before).map(ToString::to_string).collect();
        (new, before.difference(&self.topics).cloned().collect())
    }
}

/// What an instance said of its metrics.
#[derive(Debug)]
pub(super) struct Measured {
    key: ServiceKey,
    from: ContainerId,
    port: u16,
    values: Vec<(usize, Result<u64, Missing>)>,
}

/// The services of an assignment that follow their load.
pub(super) fn shares(accepted: &Accepted) -> impl Iterator<Item = Share<'_>> {
    accepted.assignment.services.iter().filter_map(|service| {
        let kept = accepted.specs.get(&service.spec)?;
        Some(Share {
            key: (service.application.clone(), service.service.clone()),
            slots: &service.slots,
            scaling: service.scale.as_ref()?,
            resources: &kept.spec.resources,
        })
    })
}

/// What an assignment wants of this node, of services that follow their load as many as were decided.
pub(super) fn wanted_of(accepted: &Accepted, scales: &Scales, observed: &Observed) -> Wanted {
    let mut wanted = Wanted::new();
    for service in &accepted.assignment.services {
        let Some(kept) = accepted.specs.get(&service.spec) else { continue };
        let next = service.next.and_then(|hash| Some((hash, accepted.specs.get(&hash)?)));
        let next = next.map(|(hash, kept)| (hash, kept.spec.clone()));
        let want = WantedInstance {
            order: service.order,
            next,
            met: service.met.clone(),
            ..WantedInstance::new(service.spec, kept.spec.clone())
        };
        let (application, name) = (&service.application, &service.service);
        let key = (application.clone(), name.clone());
        for slot in &service.slots {
            let instance =
                |slot| InstanceId { application: application.clone(), service: name.clone(), slot };
            let home = instance(*slot);
            let beside: Vec<_> = scales.beside(&key, *slot).into_iter().map(instance).collect();
            let runs = scales.runs(&home);
            let has_come = !runs || has_come(observed, &home, want.spec_hash);
            beside_home(&mut wanted, (observed, has_come), beside, &want);
            if runs {
                let done = service.done.contains(slot);
                wanted.insert(home, WantedInstance { done, ..want.clone() });
            }
        }
    }
    wanted
}

fn has_come(observed: &Observed, instance: &InstanceId, spec: SpecHash) -> bool {
    let container = observed.newest(instance).and_then(|id| observed.container(&id));
    container.is_some_and(|it| it.spec_hash == spec && it.is_well())
}

/// Instances beside one follow it to another spec one after the other, each when those before it are well:
/// the controller gives the home its turn in an update and does not know of the others. Until then they run
/// what they run.
fn beside_home(
    wanted: &mut Wanted,
    (observed, home_has_come): (&Observed, bool),
    beside: Vec<InstanceId>,
    want: &WantedInstance,
) {
    let mut all_have_come = home_has_come;
    for instance in beside {
        let container = observed.newest(&instance).and_then(|id| observed.container(&id));
        let other = container.filter(|it| it.is_live() && it.spec_hash != want.spec_hash);
        let kept = other.filter(|_| !all_have_come);
        let mut own = want.clone();
        if let Some(kept) = kept {
            // What it was made of may not be known after a restart of the agent, and is not needed: it is
            // kept while it lives, and what follows it is of the new version.
            own.spec_hash = kept.spec_hash;
            own.spec = kept.spec.clone().unwrap_or(own.spec);
        }
        all_have_come &= has_come(observed, &instance, want.spec_hash);
        wanted.insert(instance, own);
    }
}

fn standing(observed: &Observed, instance: &InstanceId) -> Standing {
    let Some(id) = observed.newest(instance) else { return Standing::Absent };
    match observed.container(&id) {
        Some(container) if container.is_well() => Standing::Well,
        Some(container) if container.is_live() => Standing::Live,
        _ => Standing::Absent,
    }
}

impl<R: Runtime, I: Images> ControlLoop<R, I> {
    /// Another assignment: what it says of scaling holds from now on.
    pub(super) fn follow_scaling(&mut self, accepted: &Accepted) {
        self.scaling.scales.follow(shares(accepted));
        self.scaling.follows = true;
        if self.runtime_ready {
            let (observed, now_ms) = (&self.observed, self.clock.now_ms());
            self.scaling.scales.choose(|instance| standing(observed, instance), now_ms);
        }
        let (new, gone) = self.scaling.choose_topics();
        if !self.link_state.connected {
            return;
        }
        // With no room now everything is subscribed again later.
        self.link_state.filters_due |= self.link.subscribe(new).is_err();
        for topic in gone {
            if self.link.unsubscribe(&topic).is_err() {
                tracing::debug!("{topic} is listened to until the next connection");
            }
        }
    }

    /// Specs of which a service may get an instance here at any time, and has none; also what comes next of it.
    pub(super) fn resting(&self) -> BTreeMap<SpecHash, Arc<Spec>> {
        let accepted = self.intake.current().filter(|_| self.ending_at_ms.is_none());
        let services = accepted.map(|it| &it.assignment.services).into_iter().flatten();
        let scaled =
            services.filter(|service| service.scale.is_some() && !service.slots.is_empty());
        let runs = |spec: &SpecHash| self.wanted.values().any(|want| want.spec_hash == *spec);
        let rests = scaled.filter(|service| !runs(&service.spec));
        let rests = rests.flat_map(|service| [Some(service.spec), service.next]).flatten();
        let spec = |hash| Some((hash, accepted?.specs.get(&hash)?.spec.clone()));
        rests.filter_map(spec).collect()
    }

    /// Reads what is due and lets what is wanted follow. Returns when to look again, and whether anybody
    /// has to hear of it.
    pub(super) fn look_at_scaling(&mut self) -> (Option<u64>, bool) {
        if self.scaling.scales.is_empty() {
            self.scaling.sampler.rest();
        }
        // Before the runtime has told what there is, nobody knows what runs.
        if !self.runtime_ready || self.ending_at_ms.is_some() {
            return (None, false);
        }
        let now_ms = self.clock.now_ms();
        let observed = &self.observed;
        let mut changed = self.scaling.scales.choose(|it| standing(observed, it), now_ms);
        if self.scaling.scales.due_ms().is_some_and(|due_ms| due_ms <= now_ms) {
            self.read_load(now_ms);
            let observed = &self.observed;
            changed |= self.scaling.scales.choose(|it| standing(observed, it), now_ms);
        }
        // While some follow their home to another spec, every event may be the turn of the next.
        if (changed || self.scaling.follows)
            && let Some(accepted) = self.intake.current()
        {
            let wanted = wanted_of(accepted, &self.scaling.scales, &self.observed);
            changed |= wanted != self.wanted;
            self.wanted = wanted;
            let named = |hash| accepted.assignment.services.iter().any(|it| it.spec == hash);
            self.scaling.follows = self.wanted.values().any(|it| !named(it.spec_hash));
        }
        self.reporter.scale(self.scaling.scales.reports());
        let unsaid = self.reporter.due_ms().is_some() || self.events.has_unsaid();
        let tells = unsaid && self.link_state.connected;
        (self.scaling.scales.due_ms(), changed || tells)
    }

    fn read_load(&mut self, now_ms: u64) {
        for (MetricTopic { application, service, name }, payload) in self.link.take_figures() {
            self.scaling.scales.published(&(application, service), &name, &payload, now_ms);
        }
        let observed = &self.observed;
        let scales = &self.scaling.scales;
        let wishes = self.wanted.keys().filter_map(|instance| {
            let measured = scales.measured(instance)?;
            let id = observed.newest(instance)?;
            let container = observed.container(&id)?;
            (container.life == Life::Running).then(|| Wish {
                ready: container.is_well(),
                id,
                measured,
            })
        });
        let wishes: Vec<Wish> = wishes.collect();
        let mut readings = self.scaling.sampler.read(&self.paths, wishes, now_ms);
        readings.instances = self.wanted.len();
        let changes = self.scaling.scales.look(&readings, now_ms);
        for change in changes {
            self.tell_scaled(&change);
        }
        for (key, endpoint) in self.scaling.scales.endpoints_due(now_ms) {
            self.ask_for_metrics(&key, &endpoint, now_ms);
        }
    }

    fn tell_scaled(&mut self, change: &Change) {
        let (application, service) = &change.key;
        let reports = self.scaling.scales.reports();
        let is_it = |it: &&ScaleReport| it.application == *application && it.service == *service;
        let figures = reports.iter().find(is_it).map(|it| words(&it.figures)).unwrap_or_default();
        let why = match change.gave_way {
            Some(cause) => format!("{} on the node", cause.as_str()),
            None if change.woke => "a connection waits for it".to_owned(),
            None => figures,
        };
        let (before, after) = (change.before, change.after);
        let message = format!("{application}.{service} runs {after} and not {before}: {why}");
        self.event(EventKind::Scaled, None, message);
    }

    /// Asks every instance that runs; they answer beside the loop.
    fn ask_for_metrics(&mut self, key: &ServiceKey, endpoint: &Endpoint, now_ms: u64) {
        let service = endpoint.service.as_ref().unwrap_or(&key.1);
        let of_it =
            |instance: &&InstanceId| instance.application == key.0 && instance.service == *service;
        let instances: Vec<InstanceId> = self.wanted.keys().filter(of_it).cloned().collect();
        for instance in instances {
            let Some(id) = self.observed.newest(&instance) else { continue };
            let container = self.observed.container(&id);
            let Some(container) = container.filter(|it| it.life == Life::Running) else { continue };
            let (port, path) = match endpoint.question.clone() {
                Question::Http { port, path } => (port, path),
                counted => {
                    let count = count(container, &counted).ok_or(Missing::Other);
                    let values: Vec<_> =
                        endpoint.metrics.iter().map(|(at, _)| (*at, count)).collect();
                    self.scaling.scales.heard(key, &id, &values, now_ms);
                    continue;
                }
            };
            let Some(network) = network_of(container) else { continue };
            let asked = &mut self.scaling.asked;
            if asked.len() >= MAX_ASKED || !asked.insert((id.clone(), port)) {
                continue;
            }
            let (key, metrics) = (key.clone(), endpoint.metrics.clone());
            self.jobs.spawn(async move {
                let text = probe::fetch(network, port, &path, METRICS_TIMEOUT).await;
                let text = text.inspect_err(|error| tracing::debug!("metrics of {id}: {error}"));
                let value = |metric: &MetricTarget| match &text {
                    Ok(text) => {
                        value_of(text, &metric.name, &metric.labels).ok_or(Missing::NoSeries)
                    }
                    Err(_) => Err(Missing::NoAnswer),
                };
                let values = metrics.iter().map(|(at, metric)| (*at, value(metric))).collect();
                Job::Measured(Measured { key, from: id, port, values })
            });
        }
    }

    /// An instance told its metrics, or did not.
    pub(super) fn measured(&mut self, measured: Measured) {
        let Measured { key, from, port, values } = measured;
        let now_ms = self.clock.now_ms();
        self.scaling.scales.heard(&key, &from, &values, now_ms);
        self.scaling.asked.remove(&(from, port));
    }
}

/// What the kernel counts of a container, in thousandths.
fn count(container: &Container, question: &Question) -> Option<u64> {
    match question {
        Question::Connections => connections::established(container.pid?),
        Question::Traffic => Some(traffic::of(own_network(container)?)?.sum()),
        Question::Http { .. } => None,
    }
}

/// `cpu 92 of 60, queue ? of 100`.
fn words(figures: &[Figure]) -> String {
    let word = |figure: &Figure| {
        let value = figure.value.map_or_else(|| "?".to_owned(), in_words);
        let why = figure.missing.map(|why| format!(" ({})", why.as_str())).unwrap_or_default();
        format!("{} {value} of {}{why}", figure.metric, in_words(figure.target))
    };
    let all: Vec<String> = figures.iter().map(word).collect();
    let mut all = all.join(", ");
    all.truncate(all.floor_char_boundary(MAX_REASON_BYTES));
    all
}
