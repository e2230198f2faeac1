//! How a service comes from one spec to the next: `deploy.update_config`, `deploy.rollback_config`.

use limpet_protocol::application::{FailureAction, UpdatePolicy};
use limpet_protocol::assignment::UpdateOrder;
use limpet_protocol::limits::MAX_REPLICAS;

use super::reader::Reader;
use crate::units;

/// Every failure is borne.
pub(super) const ALL_PPM: u32 = 1_000_000;
/// The longest time that a rule may name: what is longer is a mistake of units.
const MAX_TIME_MS: u64 = 7 * 24 * 3600 * 1000;

/// `deploy.update_config` or `deploy.rollback_config`, with the defaults of Docker Swarm.
pub(super) fn policy(reader: &mut Reader, key: &str) -> UpdatePolicy {
    let mut found = UpdatePolicy::default();
    let path = |name: &str| format!("deploy.{key}.{name}");
    if let Some(count) = reader.integer(&path("parallelism"), 0, i64::from(MAX_REPLICAS)) {
        found.parallelism = u32::try_from(count).unwrap_or(found.parallelism);
    }
    found.delay_ms = time(reader, &path("delay")).unwrap_or(found.delay_ms);
    found.monitor_ms = time(reader, &path("monitor")).unwrap_or(found.monitor_ms);
    found.max_failure_ppm =
        ratio(reader, &path("max_failure_ratio")).unwrap_or(found.max_failure_ppm);
    found.failure_action =
        failure_action(reader, &path("failure_action"), key).unwrap_or(found.failure_action);
    if reader.text(&path("order")).as_deref() == Some("start-first") {
        found.order = UpdateOrder::StartFirst;
    }
    found
}

fn time(reader: &mut Reader, path: &str) -> Option<u64> {
    let node = reader.get(path)?;
    // That it is a duration was checked with all others.
    let milliseconds = node.scalar().and_then(units::duration_ms)?;
    if milliseconds > MAX_TIME_MS {
        reader.at(path).refuse(node, "longer than a week", "write it with a unit: `10s`, `5m`");
    }
    Some(milliseconds)
}

fn ratio(reader: &mut Reader, path: &str) -> Option<u32> {
    let node = reader.get(path)?;
    let number = node.scalar().and_then(|text| text.parse::<f64>().ok());
    let Some(ratio) = number.filter(|ratio| (0.0..=1.0).contains(ratio)) else {
        let message = format!("expected a number from 0 to 1, found {}", node.kind());
        reader.at(path).fail(node, message);
        return None;
    };
    // Whole and small: `as` cannot lose anything here.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 0 to a million"
    )]
    let millionths = (ratio * f64::from(ALL_PPM)).round() as u32;
    Some(millionths)
}

fn failure_action(reader: &mut Reader, path: &str, key: &str) -> Option<FailureAction> {
    let node = reader.get(path)?;
    match node.scalar() {
        Some("pause") => Some(FailureAction::Pause),
        Some("continue") => Some(FailureAction::Continue),
        Some("rollback") if key == "update_config" => Some(FailureAction::Rollback),
        Some("rollback") => {
            let message = "a rollback cannot be rolled back";
            reader.at(path).refuse(node, message, "`pause` or `continue`");
            None
        }
        _ => {
            let message = format!("expected pause, continue or rollback, found {}", node.kind());
            reader.at(path).fail(node, message);
            None
        }
    }
}
