//! `limpet node drain`: the work of a node goes to others; with `--wait`, until it has gone.
//!
//! The controller is asked again and again what is left there. What that means is decided by
//! [`judge`], which is pure: nothing is left, something is on its way, or what is left stays.

use std::time::Duration;

use limpet_controller::api::types::InstanceView;
use tokio::time::Instant;

use super::change::set_availability;
use crate::client::Client;
use crate::exit::Code;
use crate::{output, progress};

/// The first pause between two questions.
const FIRST_PAUSE: Duration = Duration::from_millis(40);
/// The longest pause between two questions.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// How long nothing may move before what is left is held to stay: longer than the planner, an agent
/// and a container need for the next step.
const RESTS_AFTER: Duration = Duration::from_secs(10);
/// Most lines of what stays: the rest is in `limpet ps`.
const MAX_LINES: usize = 20;

/// Why a node is not empty.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    /// Nothing moves any more, and something is left.
    #[error("node {node} keeps what nobody else can take:\n{}", .left.join("\n"))]
    Stays {
        /// The node.
        node: String,
        /// What is left and why.
        left: Vec<String>,
    },
    /// The time is over.
    #[error("node {node} is not empty after {timeout:?}:\n{}", .left.join("\n"))]
    Timeout {
        /// The node.
        node: String,
        /// How long was waited.
        timeout: Duration,
        /// What is left and why.
        left: Vec<String>,
    },
}

impl DrainError {
    /// The exit code that says it.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Stays { .. } => Code::Failed,
            Self::Timeout { .. } => Code::Timeout,
        }
    }
}

pub(super) async fn run(
    nodes: &[String],
    wait: Option<Duration>,
    client: &Client,
) -> anyhow::Result<()> {
    let mut drained = Vec::with_capacity(nodes.len());
    for node in nodes {
        let revision = set_availability(node, "drain", client).await?;
        drained.push((node, revision));
        if wait.is_none() {
            output::print(&format!("{node} is being drained (revision {revision})\n"))?;
        }
    }
    let Some(timeout) = wait else { return Ok(()) };
    let deadline = Instant::now() + timeout;
    for (node, revision) in drained {
        until_empty(node, revision, (timeout, deadline), client).await?;
        output::print(&format!("{node} is drained (revision {revision})\n"))?;
    }
    Ok(())
}

async fn until_empty(
    node: &str,
    revision: u64,
    (timeout, deadline): (Duration, Instant),
    client: &Client,
) -> anyhow::Result<()> {
    let bar = progress::spinner(format!("{node} is being drained"));
    let (mut pause, mut seen, mut moved_at) = (FIRST_PAUSE, Vec::new(), Instant::now());
    loop {
        let list = client.instances(None).await?;
        let concerned = concerned(node, &list.items);
        let now = movement(&concerned);
        if seen != now {
            (seen, moved_at) = (now, Instant::now());
        }
        let verdict =
            if list.revision >= revision { judge(node, &concerned) } else { Verdict::Going };
        match verdict {
            Verdict::Empty => {
                bar.finish_and_clear();
                return Ok(());
            }
            Verdict::Rests if moved_at.elapsed() >= RESTS_AFTER => {
                return Err(
                    DrainError::Stays { node: node.into(), left: left(node, &concerned) }.into()
                );
            }
            _ if Instant::now() >= deadline => {
                let left = left(node, &concerned);
                return Err(DrainError::Timeout { node: node.into(), timeout, left }.into());
            }
            _ => tokio::time::sleep(pause).await,
        }
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

/// The instances on the node, and those of the same services elsewhere: their replacements.
fn concerned<'a>(node: &str, all: &'a [InstanceView]) -> Vec<&'a InstanceView> {
    let of = |item: &'a InstanceView| (item.application.as_str(), item.service.as_str());
    let here: Vec<_> = all.iter().filter(|item| is_on(node, item)).map(of).collect();
    all.iter().filter(|item| here.contains(&of(item))).collect()
}

fn is_on(node: &str, item: &InstanceView) -> bool {
    item.node.as_deref() == Some(node)
}

fn movement(concerned: &[&InstanceView]) -> Vec<(String, Option<String>, String)> {
    let of = |item: &&InstanceView| (item.instance.clone(), item.node.clone(), item.phase.clone());
    concerned.iter().map(of).collect()
}

/// How far a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Nothing is left.
    Empty,
    /// Something is on its way.
    Going,
    /// Something is left, and nobody works on it.
    Rests,
}

fn judge(node: &str, concerned: &[&InstanceView]) -> Verdict {
    if !concerned.iter().any(|item| is_on(node, item)) {
        return Verdict::Empty;
    }
    let on_its_way = |item: &&InstanceView| match item.phase.as_str() {
        "assigned" | "waiting" | "creating" | "stopping" => true,
        // A reason is there only once something has gone wrong.
        "pending" | "pulling" => item.reason.is_none(),
        _ => false,
    };
    if concerned.iter().any(on_its_way) { Verdict::Going } else { Verdict::Rests }
}

/// What is left on the node, a line each.
fn left(node: &str, concerned: &[&InstanceView]) -> Vec<String> {
    let here: Vec<&&InstanceView> = concerned.iter().filter(|item| is_on(node, item)).collect();
    let line = |item: &&&InstanceView| match &item.reason {
        Some(reason) => format!("  {}: {}, {reason}", item.instance, item.phase),
        None => format!("  {}: {}", item.instance, item.phase),
    };
    let mut lines: Vec<String> = here.iter().take(MAX_LINES).map(line).collect();
    if here.len() > MAX_LINES {
        lines.push(format!("  and {} more", here.len() - MAX_LINES));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::tests::instance;

    fn on(node: &str, service: &str, phase: &str, reason: Option<&str>) -> InstanceView {
        InstanceView {
            node: Some(node.into()),
            phase: phase.into(),
            reason: reason.map(Into::into),
            ..instance("shop", service, 1)
        }
    }

    #[test]
    fn a_node_is_empty_going_or_at_rest() {
        let cases = [
            (vec![on("b", "web", "pulling", None)], Verdict::Empty),
            (vec![on("a", "web", "running", None)], Verdict::Rests),
            (vec![on("a", "web", "stopping", None)], Verdict::Going),
            (
                vec![on("a", "web", "running", None), on("b", "web", "pulling", None)],
                Verdict::Going,
            ),
            (
                vec![
                    on("a", "web", "running", None),
                    on("b", "web", "pulling", Some("no registry")),
                ],
                Verdict::Rests,
            ),
            (
                vec![on("a", "web", "running", None), on("b", "db", "creating", None)],
                Verdict::Rests,
            ),
            (vec![on("a", "db", "running", Some("its volume is here"))], Verdict::Rests),
        ];
        for (all, verdict) in cases {
            assert_eq!(judge("a", &concerned("a", &all)), verdict, "{all:?}");
        }
    }

    #[test]
    fn what_stays_is_told_with_its_reason() {
        let all =
            [on("a", "db", "running", Some("its volume is here")), on("b", "db", "running", None)];
        let lines = left("a", &concerned("a", &all));
        assert_eq!(lines, ["  shop.db.1: running, its volume is here"]);
    }
}
