//! The language of the stories.
//!
//! | line | meaning |
//! |---|---|
//! | `# ...` | for readers |
//! | `node NAME [LABEL=VALUE ...]` | a node joins |
//! | `away NAME`, `lost NAME`, `back NAME` | its link goes, it is given up, its link is there again |
//! | `drain NAME`, `active NAME` | a person takes its work away, or lets it have work again |
//! | `image NAME FATE` | what comes of an image that is used from now on: `good`, `missing`, `slow`, `crashes`, `completes`, `stumbles` (its first attempt crashes), `sickens` (its first attempt) |
//! | `service NAME IMAGE [KEY=VALUE ...]` | what is wanted of a service from the next `apply` on |
//! | `apply` | the services are wanted |
//! | `pause NAME`, `resume NAME` | a person's order |
//! | `run MILLISECONDS` | time passes |
//! | `show` | what each node runs |
//!
//! Keys of a service: `replicas`, `global`, `parallelism`, `delay`, `monitor`, `ratio` (percent),
//! `action`, `start-first`, `after`, `follows` (a service), `waves` (`LABEL:VALUE` or `N%`, with commas),
//! `success`, `down` (percent, number), `job` (`COMPLETIONS:PARALLELISM`), `retries` (of a run that fails),
//! `check` (its interval), `once` (started again on failure only).

use std::fmt::Write as _;

use limpet_controller::store::records::Availability;
use limpet_protocol::application::{
    Attribute, Constraint, FailureAction, Mode, Portion, Service, Wave, WavePolicy,
};
use limpet_protocol::assignment::UpdateOrder;
use limpet_protocol::spec::{
    Dependency, DependencyCondition, HealthCheck, HealthTest, ImageSource, RestartCondition, Spec,
};

use super::controller::Story;

/// Tells a story: every decision, with its time.
pub(crate) fn tell(text: &str) -> Result<String, String> {
    let mut story = Story::default();
    let mut told = String::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        writeln!(told, "> {line}").map_err(|error| error.to_string())?;
        command(&mut story, &words).map_err(|error| format!("line {}: {error}", number + 1))?;
        for line in story.take_told() {
            writeln!(told, "{line}").map_err(|error| error.to_string())?;
        }
    }
    Ok(told)
}

fn command(story: &mut Story, words: &[&str]) -> Result<(), String> {
    match words {
        ["node", name, labels @ ..] => story.join(name, labels),
        ["away", name] => story.stand(name, "away"),
        ["lost", name] => story.stand(name, "lost"),
        ["back", name] => story.stand(name, "back"),
        ["drain", name] => story.let_work(name, Availability::Drain),
        ["active", name] => story.let_work(name, Availability::Active),
        ["image", name, what] => story.image(name, what),
        ["service", name, image, keys @ ..] => {
            let service = service(name, image, keys)?;
            story.wants(name, service)
        }
        ["apply"] => {
            story.apply();
            Ok(())
        }
        ["pause", name] => story.order(name, true),
        ["resume", name] => story.order(name, false),
        ["run", ms] => {
            story.run(number(ms)?);
            Ok(())
        }
        ["show"] => {
            story.show();
            Ok(())
        }
        _ => Err(format!("{words:?} is no command")),
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

fn service(name: &str, image: &str, keys: &[&str]) -> Result<Service, String> {
    let parsed = |error| format!("{name:?}: {error}");
    let name = name.parse().map_err(parsed)?;
    let application = "shop".parse().map_err(parsed)?;
    let spec = Spec::new(application, name, ImageSource::new(image));
    let mut service = Service::new(spec, Mode::Replicated { replicas: 1 });
    for key in keys {
        let (key, value) = key.split_once('=').unwrap_or((key, ""));
        set(&mut service, key, value)?;
    }
    Ok(service)
}

fn set(service: &mut Service, key: &str, value: &str) -> Result<(), String> {
    let waves = || WavePolicy::default();
    match key {
        "replicas" => service.mode = Mode::Replicated { replicas: number(value)? },
        "global" => service.mode = Mode::Global,
        "parallelism" => {
            service.update.parallelism = number(value)?;
            service.rollback.parallelism = service.update.parallelism;
        }
        "delay" => service.update.delay_ms = number(value)?,
        "monitor" => {
            service.update.monitor_ms = number(value)?;
            service.rollback.monitor_ms = service.update.monitor_ms;
        }
        "ratio" => service.update.max_failure_ppm = number::<u32>(value)? * 10_000,
        "action" => {
            service.update.failure_action = match value {
                "pause" => FailureAction::Pause,
                "continue" => FailureAction::Continue,
                "rollback" => FailureAction::Rollback,
                _ => return Err(format!("{value:?} is no action")),
            };
        }
        "start-first" => service.update.order = UpdateOrder::StartFirst,
        "after" | "follows" => service.spec.depends_on.push(Dependency {
            service: value.parse().map_err(|error| format!("{value:?}: {error}"))?,
            condition: DependencyCondition::ServiceStarted,
            restart: key == "follows",
            required: true,
        }),
        "waves" => {
            let all = value.split(',').map(wave).collect::<Result<_, _>>()?;
            service.waves.get_or_insert_with(waves).waves = all;
            service.update.max_failure_ppm = 1_000_000;
        }
        "success" => {
            service.waves.get_or_insert_with(waves).success_percent = number(value)?;
        }
        "down" => {
            let most = Portion::Count(number(value)?);
            service.waves.get_or_insert_with(waves).max_unavailable = Some(most);
        }
        "job" | "retries" | "check" | "once" => set_life(service, key, value)?,
        _ => return Err(format!("{key:?} is no key of a service")),
    }
    Ok(())
}

/// Keys of how single instances live and end.
fn set_life(service: &mut Service, key: &str, value: &str) -> Result<(), String> {
    match key {
        "job" => {
            let (completions, parallelism) = value.split_once(':').unwrap_or((value, value));
            let (completions, parallelism) = (number(completions)?, number(parallelism)?);
            service.mode = Mode::ReplicatedJob { completions, parallelism };
            service.spec.restart.condition = RestartCondition::OnFailure;
        }
        "once" => service.spec.restart.condition = RestartCondition::OnFailure,
        "retries" => service.spec.restart.max_attempts = Some(number(value)?),
        _ => {
            service.spec.healthcheck = Some(HealthCheck {
                test: HealthTest::Shell("true".to_owned()),
                interval_ms: Some(number(value)?),
                timeout_ms: None,
                retries: Some(2),
                start_period_ms: None,
                start_interval_ms: None,
            });
        }
    }
    Ok(())
}

fn wave(text: &str) -> Result<Wave, String> {
    if let Some(percent) = text.strip_suffix('%') {
        return number(percent).map(Wave::Percent);
    }
    let (label, value) = text.split_once(':').ok_or_else(|| format!("{text:?} is no wave"))?;
    let attribute = Attribute::Label(label.to_owned());
    Ok(Wave::Nodes(vec![Constraint { attribute, equal: true, value: value.to_owned() }]))
}
