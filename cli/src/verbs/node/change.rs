//! `limpet node label|cordon|uncordon|rm`.

use limpet_controller::api::types::NodePatch;

use super::labels;
use crate::client::Client;
use crate::output;

pub(super) async fn label(node: &str, words: &[String], client: &Client) -> anyhow::Result<()> {
    let patch = NodePatch { labels: labels::parse(words)?, availability: None };
    let outcome = client.change_node(node, &patch).await?;
    let given = labels::in_words(&outcome.given_labels);
    let given = if given.is_empty() { "none".to_owned() } else { given };
    let revision = outcome.revision;
    output::print(&format!("{node}: labels given by people: {given} (revision {revision})\n"))?;
    Ok(())
}

pub(super) async fn availability(
    nodes: &[String],
    availability: &str,
    client: &Client,
) -> anyhow::Result<()> {
    for node in nodes {
        let revision = set_availability(node, availability, client).await?;
        let what = match availability {
            "pause" => "is cordoned: it takes nothing new",
            _ => "takes work again",
        };
        output::print(&format!("{node} {what} (revision {revision})\n"))?;
    }
    Ok(())
}

/// Gives the revision at which it is so.
pub(super) async fn set_availability(
    node: &str,
    availability: &str,
    client: &Client,
) -> anyhow::Result<u64> {
    let availability = Some(availability.to_owned());
    let patch = NodePatch { availability, ..NodePatch::default() };
    Ok(client.change_node(node, &patch).await?.revision)
}

pub(super) async fn remove(nodes: &[String], force: bool, client: &Client) -> anyhow::Result<()> {
    for node in nodes {
        let outcome = client.remove_node(node, force).await?;
        let revision = outcome.revision;
        output::print(&format!("removed node {node} (revision {revision})\n"))?;
    }
    Ok(())
}
