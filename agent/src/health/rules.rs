//! What a service and its image say about checks → rules with every number filled in.
//!
//! In: `healthcheck`, `x-probe` and `post_start` of a spec, the image's `HEALTHCHECK`. Out: [`Rule`]s. Numbers that
//! would keep a node busy with nothing else are raised to a floor.

use limpet_protocol::limits::MAX_HOOKS;
use limpet_protocol::spec::{HealthTest, Probe, ProbeAction, Spec};

use super::Kind;
use crate::image::ImageCheck;

/// Docker's `defaultProbeInterval`.
const INTERVAL_MS: u64 = 30_000;
/// Docker's `defaultProbeTimeout`.
const TIMEOUT_MS: u64 = 30_000;
/// Docker's `defaultStartInterval`.
const START_INTERVAL_MS: u64 = 5_000;
/// Docker's `defaultProbeRetries`.
const RETRIES: u32 = 3;
/// No check comes more often: a node has better things to do.
const SHORTEST_INTERVAL_MS: u64 = 20;
/// No check may hang for longer.
const LONGEST_TIMEOUT_MS: u64 = 3_600_000;

/// No `post_start` hook takes longer: what does is stuck.
const HOOK_TIMEOUT_MS: u64 = 300_000;
/// A hook that could not be begun is tried again after this.
const HOOK_AGAIN_MS: u64 = 1_000;

/// One check, with every number filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What is done.
    pub action: ProbeAction,
    /// Wait before the first (probes).
    pub delay_ms: u64,
    /// From one to the next.
    pub interval_ms: u64,
    /// How long one may take.
    pub timeout_ms: u64,
    /// So long after the start failures do not count (health checks).
    pub start_period_ms: u64,
    /// From one to the next within the start period (health checks).
    pub start_interval_ms: u64,
    /// Successes in a row that count.
    pub successes: u32,
    /// Failures in a row that count.
    pub failures: u32,
}

/// Whether the image has to be known before the rules are.
#[must_use]
pub fn need_image(spec: &Spec) -> bool {
    spec.healthcheck.as_ref().is_none_or(|check| check.test == HealthTest::Image)
}

/// The rules of a service on an image.
#[must_use]
pub fn rules(spec: &Spec, image: Option<&ImageCheck>) -> Vec<(Kind, Rule)> {
    let check = health_check(spec, image).map(|rule| (Kind::Check, rule));
    let probes = [
        (Kind::Startup, &spec.probes.startup),
        (Kind::Live, &spec.probes.live),
        (Kind::Ready, &spec.probes.ready),
    ];
    let probes = probes.into_iter().filter_map(|(kind, it)| Some((kind, of_probe(it.as_ref()?))));
    check.into_iter().chain(probes).chain(hooks(spec)).collect()
}

/// `post_start`: each is done once, and fails at once.
fn hooks(spec: &Spec) -> impl Iterator<Item = (Kind, Rule)> {
    (0..).zip(spec.hooks.post_start.iter().take(MAX_HOOKS)).map(|(index, hook)| {
        let rule = Rule {
            action: ProbeAction::Command(hook.command.clone()),
            delay_ms: 0,
            interval_ms: HOOK_AGAIN_MS,
            timeout_ms: HOOK_TIMEOUT_MS,
            start_period_ms: 0,
            start_interval_ms: 0,
            successes: 1,
            failures: 1,
        };
        (Kind::PostStart(index), rule)
    })
}

/// The service's words go before the image's, one by one, as Docker has it
/// (`daemon/commit.go`, `merge`).
fn health_check(spec: &Spec, image: Option<&ImageCheck>) -> Option<Rule> {
    let own = spec.healthcheck.as_ref();
    let command = match own.map(|check| &check.test) {
        Some(HealthTest::None) => return None,
        Some(HealthTest::Command(command)) => command.clone(),
        Some(HealthTest::Shell(line)) => {
            vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()]
        }
        Some(HealthTest::Image) | None => image?.command.clone(),
    };
    let pick = |own: Option<u64>, image: Option<u64>, default: u64| {
        let given = own.or(image).filter(|&value| value > 0);
        given.unwrap_or(default)
    };
    let interval =
        pick(own.and_then(|it| it.interval_ms), image.and_then(|it| it.interval_ms), INTERVAL_MS);
    let timeout =
        pick(own.and_then(|it| it.timeout_ms), image.and_then(|it| it.timeout_ms), TIMEOUT_MS);
    let start_period =
        pick(own.and_then(|it| it.start_period_ms), image.and_then(|it| it.start_period_ms), 0);
    let start_interval = pick(
        own.and_then(|it| it.start_interval_ms),
        image.and_then(|it| it.start_interval_ms),
        START_INTERVAL_MS,
    );
    let retries = own.and_then(|it| it.retries).or(image.and_then(|it| it.retries));
    Some(Rule {
        action: ProbeAction::Command(command),
        delay_ms: 0,
        interval_ms: interval.max(SHORTEST_INTERVAL_MS),
        timeout_ms: timeout.min(LONGEST_TIMEOUT_MS),
        start_period_ms: start_period,
        start_interval_ms: start_interval.max(SHORTEST_INTERVAL_MS),
        successes: 1,
        failures: retries.filter(|&retries| retries > 0).unwrap_or(RETRIES),
    })
}

fn of_probe(probe: &Probe) -> Rule {
    Rule {
        action: probe.action.clone(),
        delay_ms: probe.initial_delay_ms,
        interval_ms: probe.interval_ms.max(SHORTEST_INTERVAL_MS),
        timeout_ms: probe.timeout_ms.clamp(1, LONGEST_TIMEOUT_MS),
        start_period_ms: 0,
        start_interval_ms: 0,
        successes: probe.success_threshold.max(1),
        failures: probe.failure_threshold.max(1),
    }
}
