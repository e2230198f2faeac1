//! The rules of an update in plain words.

use limpet_protocol::application::{FailureAction, Service};
use limpet_protocol::assignment::UpdateOrder;

/// In what order so many instances are updated (`deploy.update_config`).
pub(super) fn order(service: &Service, count: u32) -> String {
    if service.mode.is_job() {
        return "each run that has not completed begins anew".to_owned();
    }
    let policy = &service.update;
    let mut text = match policy.parallelism {
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
    let action = match policy.failure_action {
        FailureAction::Pause => "pause",
        FailureAction::Continue => "go on",
        FailureAction::Rollback => "roll back",
    };
    format!("{text}; watched for {} s, on failure {action}", seconds(policy.monitor_ms))
}

fn seconds(millis: u64) -> String {
    let text = format!("{}.{:03}", millis / 1000, millis % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
