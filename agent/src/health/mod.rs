//! Health: what is asked of a running container, when, and what the answers mean.
//!
//! Deciding code: no clock, no I/O, no chance. In: the service's and the image's words ([`rules`]), the
//! answers of single checks with their times. Out: when which check is due, and whether the container
//! is healthy, ready, or to be replaced. [`crate::reconcile`] has one [`Checks`] for each container;
//! [`crate::probe`] does what is due.
//!
//! | rule | source |
//! |---|---|
//! | `healthcheck`: interval from the end of one check to the next, also before the first | Docker, `daemon/health.go`, `monitor` |
//! | until it was healthy once, failures within the start period do not count | the same, `handleProbeResult` |
//! | within the start period it is checked every start interval, and once more at its end | the same, `getInterval` |
//! | as many failures in a row as the retries say make it unhealthy, one success healthy | the same, `handleProbeResult` |
//! | probes: a steady period, the first after the initial delay, at once if there is none | Kubernetes, `prober/worker.go`, `run`, `doProbe` |
//! | until the startup probe has succeeded, live and ready probes wait | the same |
//! | a result counts when it came threshold times in a row | the same |
//! | a live or startup probe that fails has the container replaced, a ready probe does not | the same |
//! | before its first success a ready probe counts as failed | the same, `newWorker` |
//! | a container with a `healthcheck` gets traffic from its first success on | SwarmKit, `agent/exec/dockerapi/controller.go` |
//! | `post_start` hooks are done one after the other, each once; one that fails has the container replaced | Compose Specification, `post_start`; Kubernetes, `kuberuntime_container.go`, `startContainer` |
//! | a check that could not be made counts for nothing | Kubernetes, `prober/worker.go` (Docker counts it as failed) |

pub mod rules;

use limpet_protocol::report::Health;
use limpet_protocol::spec::ProbeAction;

use rules::Rule;

/// Which of a container's checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `healthcheck`.
    Check,
    /// `x-probe.startup`.
    Startup,
    /// `x-probe.live`.
    Live,
    /// `x-probe.ready`.
    Ready,
    /// `post_start`, one of its commands in their order.
    PostStart(u8),
}

impl Kind {
    /// As people know it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Check => "health check",
            Self::Startup => "startup probe",
            Self::Live => "live probe",
            Self::Ready => "ready probe",
            Self::PostStart(_) => "post_start hook",
        }
    }
}

/// How one check went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Passed,
    /// Not well, and what it said.
    Failed(String),
    /// It could not be made, for a cause that is not the container's.
    NotMade(String),
}

/// One check of a container, and how its tries went.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Check {
    kind: Kind,
    rule: Rule,
    due_ms: u64,
    /// Since when it is being made, if it is.
    since_ms: Option<u64>,
    /// The spread over time was applied.
    spread: bool,
    /// The last result, and how often it came in a row.
    row: (bool, u32),
    /// What holds: nothing before the first result that counts.
    verdict: Option<bool>,
}

/// The checks of one container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checks {
    checks: Vec<Check>,
    /// When the container began to run.
    began_ms: u64,
    seed: u64,
}

impl Checks {
    /// The checks of a container that does not run yet. Containers with different seeds are checked at
    /// different moments, though they began together.
    #[must_use]
    pub fn new(rules: Vec<(Kind, Rule)>, seed: u64) -> Self {
        let checks = rules.into_iter().map(|(kind, rule)| Check {
            kind,
            rule,
            due_ms: 0,
            since_ms: None,
            spread: false,
            row: (false, 0),
            verdict: None,
        });
        Self { checks: checks.collect(), began_ms: 0, seed }
    }

    /// The container began to run. One that was `found` running is asked at once: what it said
    /// before is lost.
    pub fn begin(&mut self, began_ms: u64, found_ms: Option<u64>) {
        self.began_ms = began_ms;
        for check in &mut self.checks {
            let delayed_ms = began_ms.saturating_add(check.rule.delay_ms);
            check.due_ms = match (found_ms, check.kind) {
                (Some(now_ms), _) => now_ms.max(delayed_ms),
                (None, Kind::Check) => check.after(began_ms, began_ms, self.seed),
                (None, _) => delayed_ms,
            };
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.checks.is_empty()
    }

    /// Since when those are being made that are.
    pub fn busy(&self) -> impl Iterator<Item = u64> {
        self.checks.iter().filter_map(|check| check.since_ms)
    }

    /// Checks that wait for their time, and when that is.
    pub fn waiting(&self) -> impl Iterator<Item = (Kind, u64)> {
        let done = self.hooks_done();
        let started = self.verdict(Kind::Startup).is_none_or(|verdict| verdict == Some(true));
        self.checks
            .iter()
            .filter(move |check| {
                check.since_ms.is_none()
                    && match check.kind {
                        Kind::Check => true,
                        Kind::Startup => check.verdict.is_none(),
                        Kind::Live | Kind::Ready => started,
                        Kind::PostStart(index) => index == done && check.verdict.is_none(),
                    }
            })
            .map(|check| (check.kind, check.due_ms))
    }

    /// What a check does, and how long it may take.
    #[must_use]
    pub fn what(&self, kind: Kind) -> Option<(&ProbeAction, u64)> {
        let check = self.checks.iter().find(|check| check.kind == kind)?;
        Some((&check.rule.action, check.rule.timeout_ms))
    }

    /// A check is begun now.
    pub fn begun(&mut self, kind: Kind, now_ms: u64) {
        self.set_busy(kind, Some(now_ms));
    }

    /// A check was not begun after all.
    pub fn not_begun(&mut self, kind: Kind) {
        self.set_busy(kind, None);
    }

    fn set_busy(&mut self, kind: Kind, since_ms: Option<u64>) {
        if let Some(check) = self.checks.iter_mut().find(|check| check.kind == kind) {
            check.since_ms = since_ms;
        }
    }

    /// A check that began then has ended now.
    pub fn ended(&mut self, kind: Kind, outcome: &Outcome, (begun_ms, now_ms): (u64, u64)) {
        let (began_ms, seed) = (self.began_ms, self.seed);
        let Some(check) = self.checks.iter_mut().find(|check| check.kind == kind) else { return };
        check.since_ms = None;
        let passed = match outcome {
            Outcome::Passed => Some(true),
            Outcome::Failed(_) => Some(false),
            Outcome::NotMade(_) => None,
        };
        if let Some(passed) = passed
            && check.counts(passed, begun_ms.saturating_sub(began_ms))
        {
            check.count(passed);
        }
        check.due_ms = match kind {
            Kind::Check => check.after(now_ms, began_ms, seed),
            _ => check.due_ms.saturating_add(check.first_shorter(check.rule.interval_ms, seed)),
        };
        check.due_ms = check.due_ms.max(now_ms);
        check.spread = true;
        if kind == Kind::Startup && check.verdict == Some(true) {
            let of_probes = |other: &&mut Check| matches!(other.kind, Kind::Live | Kind::Ready);
            for other in self.checks.iter_mut().filter(of_probes) {
                other.due_ms = other.due_ms.max(now_ms);
            }
        }
    }

    /// How many `post_start` hooks have been done.
    #[must_use]
    pub fn hooks_done(&self) -> u8 {
        let done = |check: &&Check| {
            matches!(check.kind, Kind::PostStart(_)) && check.verdict == Some(true)
        };
        u8::try_from(self.checks.iter().filter(done).count()).unwrap_or(u8::MAX)
    }

    /// So many `post_start` hooks were done by an earlier run of the agent.
    pub fn skip_hooks(&mut self, done: u8) {
        for check in &mut self.checks {
            if matches!(check.kind, Kind::PostStart(index) if index < done) {
                check.verdict = Some(true);
            }
        }
    }

    /// What holds of a check, if the container has it.
    fn verdict(&self, kind: Kind) -> Option<Option<bool>> {
        self.checks.iter().find(|check| check.kind == kind).map(|check| check.verdict)
    }

    /// How healthy the container is; none if it has nothing that says so.
    #[must_use]
    pub fn health(&self) -> Option<Health> {
        let mut about = self.checks.iter().filter(|check| check.kind != Kind::Ready).peekable();
        about.peek()?;
        if self.failed().is_some() {
            return Some(Health::Unhealthy);
        }
        let all = about.all(|check| check.verdict == Some(true));
        Some(if all { Health::Healthy } else { Health::Starting })
    }

    /// Whether the container may get traffic; none if nothing says so.
    #[must_use]
    pub fn ready(&self) -> Option<bool> {
        let mut about = self.checks.iter().filter(|check| check.kind != Kind::Live).peekable();
        about.peek()?;
        Some(about.all(|check| check.verdict == Some(true)))
    }

    /// The check that says that the container is to be replaced.
    #[must_use]
    pub fn failed(&self) -> Option<Kind> {
        let says = |check: &&Check| check.kind != Kind::Ready && check.verdict == Some(false);
        self.checks.iter().find(says).map(|check| check.kind)
    }
}

impl Check {
    /// Whether a result counts, of a check that began so long after the container.
    fn counts(&self, passed: bool, age_ms: u64) -> bool {
        let starting = self.kind == Kind::Check && self.verdict.is_none();
        passed || !starting || age_ms >= self.rule.start_period_ms
    }

    fn count(&mut self, passed: bool) {
        let in_row = if self.row.0 == passed { self.row.1.saturating_add(1) } else { 1 };
        self.row = (passed, in_row);
        let threshold = if passed { self.rule.successes } else { self.rule.failures };
        if in_row >= threshold {
            self.verdict = Some(passed);
        }
    }

    /// When a health check comes again after `now_ms`.
    fn after(&self, now_ms: u64, began_ms: u64, seed: u64) -> u64 {
        let period_ends_ms = began_ms.saturating_add(self.rule.start_period_ms);
        let mut wait_ms = self.rule.interval_ms;
        if now_ms < period_ends_ms {
            wait_ms = wait_ms.min(period_ends_ms - now_ms);
            if self.verdict.is_none() {
                wait_ms = wait_ms.min(self.rule.start_interval_ms);
            }
        }
        now_ms.saturating_add(self.first_shorter(wait_ms, seed))
    }

    /// The first pause is shorter by up to a quarter, as the seed says.
    fn first_shorter(&self, pause_ms: u64, seed: u64) -> u64 {
        if self.spread {
            return pause_ms;
        }
        let (quarter_ms, share) = (pause_ms / 4, seed >> 56);
        pause_ms - (quarter_ms / 255 * share + quarter_ms % 255 * share / 255)
    }
}

#[cfg(test)]
mod tests;
