//! How its health is found out: `healthcheck`, as Compose has it.

use limpet_protocol::spec::{HealthCheck, HealthTest};

use super::reader::Reader;
use crate::node::Node;
use crate::units;

const FORMS: &str =
    "write a line of shell, [CMD, PROGRAM, ARGUMENTS...], [CMD-SHELL, LINE] or [NONE]";

/// None takes what the image says.
pub(super) fn health(reader: &mut Reader) -> Option<HealthCheck> {
    reader.get("healthcheck")?;
    let duration = |key: &str| {
        let path = format!("healthcheck.{key}");
        reader.text(&path).and_then(|text| units::duration_ms(&text))
    };
    let (interval_ms, timeout_ms) = (duration("interval"), duration("timeout"));
    let (start_period_ms, start_interval_ms) =
        (duration("start_period"), duration("start_interval"));
    let retries = reader
        .integer("healthcheck.retries", 0, i64::from(u32::MAX))
        .and_then(|number| u32::try_from(number).ok());
    let test = if reader.flag("healthcheck.disable") { HealthTest::None } else { test(reader) };
    Some(HealthCheck { test, interval_ms, timeout_ms, retries, start_period_ms, start_interval_ms })
}

fn test(reader: &mut Reader) -> HealthTest {
    const PATH: &str = "healthcheck.test";
    let Some(node) = reader.get(PATH) else { return HealthTest::Image };
    let words = reader.texts(PATH);
    match words.split_first().map(|(form, rest)| (form.as_str(), rest)) {
        // An empty test takes the image's (`Test: {}` of Docker's HealthConfig: inherit).
        None => HealthTest::Image,
        Some(("NONE", [])) => HealthTest::None,
        Some(("CMD", [program, ..])) if !program.is_empty() => {
            HealthTest::Command(words[1..].to_vec())
        }
        Some(("CMD-SHELL", [line])) => HealthTest::Shell(line.clone()),
        Some((form @ ("NONE" | "CMD" | "CMD-SHELL"), _)) => {
            let message = format!("{form} is followed by what it cannot run");
            reader.at(PATH).refuse(node, message, FORMS);
            HealthTest::None
        }
        Some((form, _)) => {
            let place = first(node);
            let message = format!("expected NONE, CMD or CMD-SHELL, found {form:?}");
            reader.at(PATH).refuse(place, message, FORMS);
            HealthTest::None
        }
    }
}

fn first(node: &Node) -> &Node {
    node.as_sequence().and_then(<[Node]>::first).unwrap_or(node)
}
