//! The rules of an update in plain words.

use limpet_protocol::application::{FailureAction, Portion, Service};
use limpet_protocol::assignment::UpdateOrder;

/// In what order so many instances are updated (`deploy.update_config`).
pub(super) fn order(service: &Service, count: u32) -> String {
    if service.mode.is_job() {
        return "each run that has not completed begins anew".to_owned();
    }
    let policy = &service.update;
    let waves = service.waves.as_ref().filter(|policy| !policy.waves.is_empty());
    let mut text = match policy.parallelism {
        0 if waves.is_some() => "all of a wave at once".to_owned(),
        some if some > 0 && waves.is_some() => format!("{some} at a time"),
        0 => "all at once".to_owned(),
        some if some >= count => "all at once".to_owned(),
        some => format!("{some} at a time, {} groups", count.div_ceil(some)),
    };
    text += match policy.order {
        UpdateOrder::StopFirst => ", the old one ends first",
        UpdateOrder::StartFirst => ", the new one is ready first",
    };
    if policy.delay_ms > 0 {
        text += &format!(", {} s between", seconds(policy.delay_ms));
    }
    if let Some(waves) = waves {
        text += &format!(", the next wave when {} % of one came up", waves.success_percent);
    }
    let budget = service.waves.as_ref();
    if let Some(most) = budget.and_then(|budget| budget.max_unavailable) {
        text += &format!(", at most {} down", portion(most));
    }
    if let Some(most) = budget.and_then(|budget| budget.abort) {
        text += &format!(", {} failures end it", portion(most));
    }
    let action = match policy.failure_action {
        FailureAction::Pause => "pause",
        FailureAction::Continue => "go on",
        FailureAction::Rollback => "roll back",
    };
    format!("{text}; watched for {} s, on failure {action}", seconds(policy.monitor_ms))
}

fn portion(portion: Portion) -> String {
    match portion {
        Portion::Count(count) => count.to_string(),
        Portion::Percent(percent) => format!("{percent} %"),
    }
}

fn seconds(millis: u64) -> String {
    let text = format!("{}.{:03}", millis / 1000, millis % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
