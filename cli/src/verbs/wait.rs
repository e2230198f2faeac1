//! `limpet wait`, and the waiting of `apply --wait` and `rm --wait`.
//!
//! The controller is asked again and again how the application fares. What that means is decided
//! by [`judge`], which is pure: settled, still going, or stuck. Who is stuck for
//! [`STUCK_AFTER`] without a change gets the reasons instead of more patience.

use std::time::Duration;

use clap::{Args, ValueEnum};
use limpet_controller::api::types::{ApplicationView, InstanceView, List, ServiceView};
use tokio::time::Instant;

use crate::client::{Client, ClientError};
use crate::exit::{Code, NotFound};
use crate::targets::Target;
use crate::{duration, progress};

/// How long is waited when nothing else is said.
pub const DEFAULT_TIMEOUT: &str = "5m";
/// The first pause between two questions: a container starts in less than a tenth of a second.
const FIRST_PAUSE: Duration = Duration::from_millis(40);
/// The longest pause between two questions.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// How long nothing may move before "it does not run" is the answer. Longer than the restarts of a
/// service that needs a moment, shorter than a person's patience.
const STUCK_AFTER: Duration = Duration::from_secs(10);
/// Most reasons in one message: the rest is in `limpet services`.
const MAX_REASONS: usize = 10;

/// Arguments of `limpet wait`.
#[derive(Debug, Args)]
#[command(after_help = "\
Ends with exit code 0 when it is so, with 1 and the reasons when nothing moves any more, with 124 when the time is over.

Examples:
  limpet wait shop --timeout 30s && curl http://localhost:8080
  limpet wait shop.import --for completed
  limpet rm shop; limpet wait shop --for gone")]
pub struct WaitArgs {
    /// An application, or one service of it
    #[arg(value_name = "APP|APP.SERVICE")]
    target: Target,
    /// What to wait for
    #[arg(long = "for", value_enum, default_value_t, value_name = "CONDITION")]
    condition: Condition,
    /// How long to wait at most
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = DEFAULT_TIMEOUT)]
    timeout: Duration,
}

/// What can be waited for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Condition {
    /// Every service is as wanted: its instances run and are ready, or have completed where they should.
    #[default]
    #[value(aliases = ["ready", "healthy"])]
    Settled,
    /// Every instance runs or has completed, ready or not.
    Running,
    /// Every instance has completed.
    Completed,
    /// Nothing is left.
    Gone,
}

/// Who is waited for, from which revision on.
#[derive(Debug, Clone, Copy)]
pub struct Awaited<'a> {
    /// An application, or one service of it.
    pub target: &'a Target,
    /// What is known of an older revision does not count.
    pub revision: Option<u64>,
}

/// Why the waiting ended without what was waited for.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// Nothing moves any more.
    #[error("{application} does not run as wanted:\n{}", bullets(.reasons))]
    Stuck {
        /// The application.
        application: String,
        /// Why, one for each service or instance.
        reasons: Vec<String>,
    },
    /// The time is over.
    #[error("{application} is not there after {timeout:?}:\n{}", bullets(.reasons))]
    Timeout {
        /// The application.
        application: String,
        /// How long was waited.
        timeout: Duration,
        /// What is missing.
        reasons: Vec<String>,
    },
    /// The application was removed meanwhile.
    #[error("{application} was removed while it was waited for")]
    Removed {
        /// The application.
        application: String,
    },
}

impl WaitError {
    /// The exit code that says it.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Stuck { .. } => Code::Failed,
            Self::Timeout { .. } => Code::Timeout,
            Self::Removed { .. } => Code::NotFound,
        }
    }
}

fn bullets(reasons: &[String]) -> String {
    let mut lines: Vec<String> =
        reasons.iter().take(MAX_REASONS).map(|reason| format!("  {reason}")).collect();
    if reasons.len() > MAX_REASONS {
        lines.push(format!("  and {} more", reasons.len() - MAX_REASONS));
    }
    lines.join("\n")
}

/// Waits as the arguments say.
///
/// # Errors
/// [`WaitError`] if it does not come to be.
pub async fn run(args: &WaitArgs, client: &Client) -> anyhow::Result<()> {
    let awaited = Awaited { target: &args.target, revision: None };
    if args.condition == Condition::Gone {
        return until_gone(awaited, args.timeout, client).await;
    }
    let known = client.application(args.target.application.as_str()).await?;
    if !known.services.iter().any(|service| args.target.means(&service.name)) {
        return Err(NotFound(format!("there is no service {}", args.target)).into());
    }
    until(args.condition, awaited, args.timeout, client).await
}

/// Waits until an application or service is as wanted, at the given revision or a newer one.
///
/// # Errors
/// [`WaitError`] if it does not come to run.
pub async fn until_settled(
    awaited: Awaited<'_>,
    timeout: Duration,
    client: &Client,
) -> anyhow::Result<()> {
    until(Condition::Settled, awaited, timeout, client).await
}

async fn until(
    condition: Condition,
    awaited: Awaited<'_>,
    timeout: Duration,
    client: &Client,
) -> anyhow::Result<()> {
    let bar = progress::over_instances();
    let who = awaited.target.to_string();
    let started = Instant::now();
    let (mut pause, mut seen, mut moved_at) = (FIRST_PAUSE, Vec::new(), started);
    loop {
        let Some((view, instances)) = look(awaited.target, client).await? else {
            return Err(WaitError::Removed { application: who }.into());
        };
        let now = movement(&instances);
        if seen != now {
            (seen, moved_at) = (now, Instant::now());
        }
        let known = awaited.revision.is_none_or(|revision| view.revision >= revision);
        let verdict = if known { judge(condition, &view, &instances) } else { Verdict::Going };
        show(&bar, &view);
        match verdict {
            Verdict::Settled => {
                bar.finish_and_clear();
                return Ok(());
            }
            Verdict::Stuck | Verdict::OffCourse
                if verdict == Verdict::OffCourse || moved_at.elapsed() >= STUCK_AFTER =>
            {
                let reasons = reasons(&view, &instances);
                return Err(WaitError::Stuck { application: who, reasons }.into());
            }
            _ if started.elapsed() >= timeout => {
                let reasons = reasons(&view, &instances);
                return Err(WaitError::Timeout { application: who, timeout, reasons }.into());
            }
            _ => tokio::time::sleep(pause).await,
        }
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

/// How the services that are waited for fare, with their instances; none if the application or the
/// service is gone.
async fn look(
    target: &Target,
    client: &Client,
) -> anyhow::Result<Option<(ApplicationView, Vec<InstanceView>)>> {
    let name = target.application.as_str();
    let mut view = match client.application(name).await {
        Ok(view) => view,
        Err(ClientError::Answer { status, .. }) if status.as_u16() == 404 => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    view.services.retain(|service| target.means(&service.name));
    if view.services.is_empty() {
        return Ok(None);
    }
    let instances = instances(target, client).await?;
    Ok(Some((view, instances.items)))
}

async fn instances(target: &Target, client: &Client) -> Result<List<InstanceView>, ClientError> {
    let mut list = client.instances(Some(target.application.as_str())).await?;
    list.items.retain(|instance| target.means(&instance.service));
    Ok(list)
}

/// Waits until nothing of an application or service is left on any node that answers.
///
/// # Errors
/// [`WaitError::Timeout`] if something stays.
pub async fn until_gone(
    awaited: Awaited<'_>,
    timeout: Duration,
    client: &Client,
) -> anyhow::Result<()> {
    let target = awaited.target;
    let bar = progress::spinner(format!("{target} stops"));
    let (started, mut pause) = (Instant::now(), FIRST_PAUSE);
    loop {
        let List { revision, items: left } = instances(target, client).await?;
        // An older revision may not know of anything yet.
        let known = awaited.revision.is_none_or(|wanted| revision >= wanted);
        if left.is_empty() && known {
            bar.finish_and_clear();
            return Ok(());
        }
        if started.elapsed() >= timeout {
            let reasons = left.iter().map(one_line).collect();
            let application = target.to_string();
            return Err(WaitError::Timeout { application, timeout, reasons }.into());
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

fn show(bar: &indicatif::ProgressBar, view: &ApplicationView) {
    let services = view.services.iter();
    let (wanted, there) = services.fold((0, 0), |(wanted, there), service| {
        let have = (service.running + service.completed).min(service.wanted);
        (wanted + u64::from(service.wanted), there + u64::from(have))
    });
    bar.set_length(wanted);
    bar.set_position(there);
    let late = view.services.iter().find(|service| !service.settled);
    bar.set_message(late.map_or_else(String::new, |service| {
        let reason = service.reasons.first().map_or("", String::as_str);
        format!("{} {reason}", service.name)
    }));
}

/// How an application fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// As wanted.
    Settled,
    /// Not yet, and something works on it.
    Going,
    /// Not as wanted, and nobody works on it.
    Stuck,
    /// A rollout paused or went back: a person has to decide.
    OffCourse,
}

/// From this attempt on an instance that does not run is held to be in a crash loop, whichever phase
/// of it is seen.
const CRASH_LOOP_ATTEMPT: u32 = 4;

/// Whether nobody works on an instance with success: it failed, has no node, its image cannot be
/// had, or it ends again and again.
fn is_halted(instance: &InstanceView) -> bool {
    match instance.phase.as_str() {
        "failed" | "unknown" => true,
        // A reason is there only once something has gone wrong.
        "pending" | "pulling" => instance.reason.is_some(),
        "running" | "completed" => false,
        _ => instance.attempt >= CRASH_LOOP_ATTEMPT && instance.exit_code.is_some(),
    }
}

/// What moves when there is progress; the turns of a crash loop are none.
fn movement(instances: &[InstanceView]) -> Vec<(String, String)> {
    let of = |instance: &InstanceView| {
        let loops = instance.attempt >= CRASH_LOOP_ATTEMPT && instance.exit_code.is_some();
        let phase = if loops { "crash loop" } else { &instance.phase };
        (instance.instance.clone(), phase.to_owned())
    };
    instances.iter().map(of).collect()
}

/// Whether a service is as far as the condition wants it.
fn holds(condition: Condition, service: &ServiceView) -> bool {
    match condition {
        Condition::Settled => service.settled,
        Condition::Running => service.running.saturating_add(service.completed) >= service.wanted,
        Condition::Completed => service.completed >= service.wanted,
        Condition::Gone => service.wanted == 0 && service.running == 0,
    }
}

/// Whether a rollout ended where a person has to decide how it goes on.
fn is_off_course(service: &ServiceView) -> bool {
    let state = service.rollout.as_ref().map(|rollout| rollout.state.as_str());
    matches!(state, Some("paused" | "rollback_paused" | "rolled_back"))
}

/// An application is stuck when each instance that does not run is halted, or waits for such a one.
fn judge(condition: Condition, view: &ApplicationView, instances: &[InstanceView]) -> Verdict {
    if view.services.iter().all(|service| holds(condition, service)) {
        return Verdict::Settled;
    }
    if condition == Condition::Settled && view.services.iter().any(is_off_course) {
        return Verdict::OffCourse;
    }
    let at_rest = |instance: &InstanceView| {
        is_halted(instance)
            || matches!(instance.phase.as_str(), "running" | "completed" | "waiting")
    };
    if instances.iter().any(is_halted) && instances.iter().all(at_rest) {
        return Verdict::Stuck;
    }
    Verdict::Going
}

fn reasons(view: &ApplicationView, instances: &[InstanceView]) -> Vec<String> {
    let late = |instance: &&InstanceView| {
        !matches!(instance.phase.as_str(), "running" | "completed") || !instance.current
    };
    let rollouts = view.services.iter().filter(|service| is_off_course(service));
    let rollouts = rollouts.filter_map(|service| {
        Some(format!("{}: {}", service.name, service.rollout.as_ref()?.summary))
    });
    let mut reasons: Vec<String> = rollouts.collect();
    reasons.extend(instances.iter().filter(late).map(one_line));
    if reasons.is_empty() {
        for service in view.services.iter().filter(|service| !service.settled) {
            let why = service.reasons.join("; ");
            let (name, have) = (&service.name, service.running + service.completed);
            reasons.push(format!("{name}: {have} of {} run; {why}", service.wanted));
        }
    }
    reasons
}

fn one_line(instance: &InstanceView) -> String {
    let mut line = format!("{}: {}", instance.instance, instance.phase);
    if let Some(reason) = &instance.reason {
        line += &format!(", {reason}");
    }
    if let Some(code) = instance.exit_code {
        line += &format!(" (exit code {code})");
    }
    line
}

#[cfg(test)]
mod tests {
    use limpet_controller::api::types::RolloutView;

    use super::*;
    use crate::targets::tests::instance;

    fn view(settled: bool) -> ApplicationView {
        let service = ServiceView {
            name: "web".into(),
            mode: "replicated".into(),
            image: "i".into(),
            wanted: 2,
            running: 1,
            ready: 1,
            completed: 0,
            stopped: false,
            settled,
            reasons: Vec::new(),
            rollout: None,
            scale: None,
        };
        let services = vec![service];
        ApplicationView { name: "shop".into(), revision: 3, applied_ms: 1, services }
    }

    fn with_phases(phases: &[(&str, Option<&str>)]) -> Vec<InstanceView> {
        let one = |(slot, (phase, reason)): (u32, &(&str, Option<&str>))| InstanceView {
            phase: (*phase).into(),
            reason: reason.map(Into::into),
            ..instance("shop", "web", slot)
        };
        (1..).zip(phases).map(one).collect()
    }

    #[test]
    fn only_who_does_not_move_is_stuck() {
        type Phases = [(&'static str, Option<&'static str>)];
        let cases: [(&Phases, Verdict); 7] = [
            (&[("running", None), ("creating", None)], Verdict::Going),
            (&[("running", None), ("failed", Some("exit code 1"))], Verdict::Stuck),
            (&[("failed", None), ("pulling", None)], Verdict::Going),
            (&[("failed", None), ("waiting", Some("for db"))], Verdict::Stuck),
            (&[("pending", Some("no node has 8 GiB"))], Verdict::Stuck),
            (&[("pending", None)], Verdict::Going),
            (&[("pulling", Some("no such registry")), ("running", None)], Verdict::Stuck),
        ];
        for (phases, verdict) in cases {
            assert_eq!(
                judge(Condition::Settled, &view(false), &with_phases(phases)),
                verdict,
                "{phases:?}"
            );
        }
        assert_eq!(
            judge(Condition::Settled, &view(true), &with_phases(&[("failed", None)])),
            Verdict::Settled
        );
        assert_eq!(judge(Condition::Settled, &view(false), &[]), Verdict::Going);
    }

    #[test]
    fn a_condition_holds_when_its_counts_say_so() {
        use Condition::{Completed, Gone, Running, Settled};
        let mut service = view(false).services.remove(0);
        let holds_of = |service: &ServiceView| {
            [Settled, Running, Completed, Gone].map(|condition| holds(condition, service))
        };
        assert_eq!(holds_of(&service), [false; 4], "one of two runs");
        service.running = 2;
        assert_eq!(holds_of(&service), [false, true, false, false], "both run, one is ready");
        (service.ready, service.settled) = (2, true);
        assert_eq!(holds_of(&service), [true, true, false, false]);
        (service.running, service.ready, service.completed) = (0, 0, 2);
        assert_eq!(holds_of(&service), [true, true, true, false]);
        (service.wanted, service.completed, service.stopped) = (0, 0, true);
        assert_eq!(holds_of(&service), [true; 4], "stopped");
    }

    #[test]
    fn a_rollout_that_ended_elsewhere_is_no_reason_to_wait() {
        let mut view = view(false);
        let with = |state: &str| RolloutView {
            state: state.into(),
            updated: 1,
            total: 2,
            failed: 1,
            away: 0,
            reason: None,
            summary: "rolled back: it crashed".into(),
        };
        let running = with_phases(&[("running", None), ("running", None)]);
        for (state, verdict) in [
            ("updating", Verdict::Going),
            ("rolling_back", Verdict::Going),
            ("paused", Verdict::OffCourse),
            ("rolled_back", Verdict::OffCourse),
        ] {
            view.services[0].rollout = Some(with(state));
            assert_eq!(judge(Condition::Settled, &view, &running), verdict, "{state}");
        }
        assert_eq!(reasons(&view, &running), ["web: rolled back: it crashed"]);
        assert_eq!(judge(Condition::Running, &view, &running), Verdict::Going);
    }

    #[test]
    fn a_crash_loop_is_no_progress() {
        let turn = |phase: &str, attempt| {
            let (phase, exit_code) = (phase.to_owned(), Some(3));
            vec![InstanceView { phase, attempt, exit_code, ..instance("shop", "web", 1) }]
        };
        assert_eq!(
            judge(Condition::Settled, &view(false), &turn("waiting", 2)),
            Verdict::Going,
            "it may yet come up"
        );
        assert_eq!(judge(Condition::Settled, &view(false), &turn("waiting", 7)), Verdict::Stuck);
        assert_eq!(judge(Condition::Settled, &view(false), &turn("creating", 8)), Verdict::Stuck);
        assert_eq!(movement(&turn("waiting", 7)), movement(&turn("running", 8)));
        assert_ne!(movement(&turn("waiting", 1)), movement(&turn("running", 2)));
    }

    #[test]
    fn reasons_name_the_instance() {
        let instances = with_phases(&[("running", None), ("failed", Some("no such image"))]);
        assert_eq!(reasons(&view(false), &instances), ["shop.web.2: failed, no such image"]);
        assert_eq!(reasons(&view(false), &[]), ["web: 1 of 2 run; "]);
    }
}
