//! What single values must be beyond their shape, and which keys a mapping needs.

use crate::Diagnostic;
use crate::canonical::Spot;
use crate::node::{Node, Value};

/// The keys that a mapping cannot do without.
pub(crate) fn needed(pattern: &str) -> &'static [&'static str] {
    match pattern {
        "services.*.devices[]" => &["source"],
        "services.*.extends" => &["service"],
        "services.*.ports[]" => &["target"],
        "services.*.provider" => &["type"],
        "services.*.env_file[]" | "include[]" => &["path"],
        "services.*.ulimits.*" | "services.*.build.ulimits.*" => &["soft", "hard"],
        "services.*.develop.watch[]" => &["path", "action"],
        "services.*.develop.watch[].exec" | "services.*.post_start[]" | "services.*.pre_stop[]" => {
            &["command"]
        }
        "services.*.deploy.resources.reservations.devices[]" => &["capabilities"],
        "models.*" => &["model"],
        _ => &[],
    }
}

/// Checks a value that has its shape already.
pub(crate) fn check(node: &Node, spot: Spot) -> Result<(), Diagnostic> {
    let text = node.scalar().unwrap_or_default();
    let number = || text.parse::<f64>().unwrap_or(f64::NAN);
    let (fits, expected) = match spot.pattern {
        "services.*.pull_policy" => {
            (is_pull_policy(text), "always, missing, if_not_present, never, build or every_<time>")
        }
        "services.*.container_name" => {
            (is_container_name(text), "letters, digits, `_`, `.` and `-`, two at least")
        }
        "services.*.oom_score_adj" => {
            ((-1000.0..=1000.0).contains(&number()), "a number from -1000 to 1000")
        }
        "services.*.cpu_percent" => ((0.0..=100.0).contains(&number()), "a number from 0 to 100"),
        "services.*.cpu_count" => (number() >= 0.0, "a number of CPUs"),
        "services.*.provider.options.*" => {
            let scalar = |node: &Node| node.scalar().is_some();
            let fits = match &node.value {
                Value::Sequence(items) => items.iter().all(scalar),
                _ => scalar(node),
            };
            (fits, "a text, a number, true, false, or a list of them")
        }
        _ => return Ok(()),
    };
    if fits {
        return Ok(());
    }
    Err(spot.fail(node, format!("expected {expected}, found {}", node.kind())))
}

fn is_pull_policy(text: &str) -> bool {
    const WORDS: [&str; 8] =
        ["always", "never", "build", "if_not_present", "missing", "refresh", "daily", "weekly"];
    let is_time = |text: &str| {
        text.len() > 1
            && text.starts_with(|c: char| c.is_ascii_digit())
            && text.ends_with(|c: char| "wdhms".contains(c))
            && text.bytes().all(|b| b.is_ascii_digit() || b"wdhms".contains(&b))
    };
    WORDS.contains(&text) || text.strip_prefix("every_").is_some_and(is_time)
}

fn is_container_name(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    text.len() > 1
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(legal)
}
