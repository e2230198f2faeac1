//! Times, ends and versions in plain words.

use limpet_protocol::assignment::Generation;
use limpet_protocol::id::SpecHash;
use limpet_protocol::report::Exit;

/// How long ago, in one unit.
pub(super) fn ago(since_ms: u64, now_ms: u64) -> String {
    if since_ms == 0 {
        return "never".to_owned();
    }
    let seconds = now_ms.saturating_sub(since_ms) / 1000;
    let (count, unit) = match seconds {
        0..=119 => (seconds, "s"),
        120..=7199 => (seconds / 60, "min"),
        7200..=172_799 => (seconds / 3600, "h"),
        _ => (seconds / 86_400, "days"),
    };
    format!("{count} {unit} ago")
}

/// How a container ended.
pub(super) fn ended(exit: Exit) -> String {
    match exit {
        Exit { out_of_memory: true, .. } => "was killed for want of memory".to_owned(),
        Exit { code: Some(code), .. } if code > 128 => {
            format!("ended with exit code {code} (signal {})", code - 128)
        }
        Exit { code: Some(code), .. } => format!("ended with exit code {code}"),
        Exit { code: None, .. } => "ended while nobody watched".to_owned(),
    }
}

/// The beginning of a spec's name: enough to tell two apart.
pub(super) fn short(spec: SpecHash) -> String {
    spec.to_string().chars().take(12).collect()
}

/// As the lists show it.
pub(super) fn number(generation: Generation) -> String {
    format!("{}.{}", generation.epoch, generation.number)
}

/// `1 instance`, `2 instances`.
pub(super) fn many(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
