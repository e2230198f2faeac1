//! What instances use now, asked of their nodes while somebody looks.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use futures_util::{StreamExt as _, stream};
use limpet_protocol::call::{CallIn, CallOut, InstanceLoad};
use limpet_protocol::id::NodeId;
use limpet_protocol::load::NodeLoad;
use limpet_protocol::scale::ScaleReport;
use serde::Deserialize;

use super::Api;
use super::body::Params;
use super::call::Call;
use super::error::{ApiError, Errors};
use super::types::{LoadList, LoadView, NodeLoadView, PressureView, ScaleLoadView};
use crate::observe::scale_view::node_scale_view;

/// Nodes that are asked at most: each answers with everything that it runs.
const MAX_NODES: usize = 256;
/// Nodes that are asked at the same time.
const NODES_AT_ONCE: usize = 32;
/// How long a node may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Which part of the fleet.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct LoadQuery {
    /// Names of nodes with commas between them; none asks every node that has an instance.
    nodes: Option<String>,
}

/// What instances and nodes use now: processor time, memory, processes, bytes over the network. Nothing is kept: who wants shares of
/// the processor or rates asks twice.
#[utoipa::path(
    get, path = "/v1/load", params(LoadQuery),
    responses((status = 200, description = "What they use", body = LoadList), Errors)
)]
pub(super) async fn load(
    State(api): State<Api>,
    Params(query): Params<LoadQuery>,
) -> Result<Json<LoadList>, ApiError> {
    let wanted: BTreeSet<NodeId> = match &query.nodes {
        Some(names) => names
            .split(',')
            .map(|name| {
                name.parse().map_err(|error| {
                    ApiError::bad_request(format!("nodes: {name:?} is no node's name: {error}"))
                })
            })
            .collect::<Result<_, _>>()?,
        None => {
            let view = api.control.view.borrow();
            let used = view.instances.iter().filter_map(|it| it.node.as_ref()?.parse().ok());
            used.collect()
        }
    };
    if wanted.len() > MAX_NODES {
        return Err(ApiError::bad_request(format!(
            "nodes: {} nodes are too many to look at at once; name at most {MAX_NODES}",
            wanted.len()
        )));
    }
    let asked = wanted.into_iter().map(|node| async {
        let answer = tokio::time::timeout(ANSWER_LIMIT, ask(&api, &node)).await;
        let answer = answer.unwrap_or_else(|_| Err("it does not answer".to_owned()));
        (node, answer)
    });
    let mut answers = stream::iter(asked).buffer_unordered(NODES_AT_ONCE);
    let mut list = LoadList::default();
    while let Some((node, answer)) = answers.next().await {
        match answer {
            Ok(Told { loads, scales, load }) => {
                list.items.extend(loads.into_iter().map(|load| view_of(&node, load)));
                list.nodes.extend(load.map(|load| node_of(&node, load)));
                list.scales.extend(scales.iter().map(|report| scale_of(&node, report)));
            }
            Err(error) => drop(list.unanswered.insert(node.to_string(), error)),
        }
    }
    list.items.sort_by(|a, b| (&a.instance, &a.node).cmp(&(&b.instance, &b.node)));
    list.nodes.sort_by(|a, b| a.node.cmp(&b.node));
    list.scales.sort_by(|a, b| (&a.service, &a.scale.node).cmp(&(&b.service, &b.scale.node)));
    Ok(Json(list))
}

/// What a node told.
struct Told {
    loads: Vec<InstanceLoad>,
    scales: Vec<ScaleReport>,
    load: Option<NodeLoad>,
}

async fn ask(api: &Api, node: &NodeId) -> Result<Told, String> {
    let ready = |node: &NodeId| {
        let view = api.control.view.borrow();
        view.nodes.iter().any(|it| it.node == node.as_str() && it.status == "ready")
    };
    if !ready(node) {
        return Err("it cannot be reached".to_owned());
    }
    let loads = question(api, node, CallIn::Load, |answer| match answer {
        CallOut::Load(loads) => Some(loads),
        _ => None,
    });
    let loads = loads.await?;
    let scales = question(api, node, CallIn::Scales, |answer| match answer {
        CallOut::Scales(scales) => Some(scales),
        _ => None,
    });
    // An agent of before these calls has nothing to say, and the rest is as good.
    let scales = scales.await.inspect_err(|error| tracing::debug!(%node, error, "no scales"));
    let load = question(api, node, CallIn::Node, |answer| match answer {
        CallOut::Node(load) => Some(*load),
        _ => None,
    });
    let load = load.await.inspect_err(|error| tracing::debug!(%node, error, "no load of its own"));
    Ok(Told { loads, scales: scales.unwrap_or_default(), load: load.ok() })
}

/// Asks a node one thing.
async fn question<T>(
    api: &Api,
    node: &NodeId,
    what: CallIn,
    pick: impl Fn(CallOut) -> Option<T>,
) -> Result<T, String> {
    let call = Call::open(api, node.clone(), what, false).await;
    let mut call = call.map_err(|error| error.body.message)?;
    loop {
        match call.receive().await? {
            CallOut::End { error, .. } => {
                return Err(error.unwrap_or_else(|| "it did not say".to_owned()));
            }
            answer => {
                if let Some(told) = pick(answer) {
                    return Ok(told);
                }
            }
        }
    }
}

fn node_of(node: &NodeId, load: NodeLoad) -> NodeLoadView {
    NodeLoadView {
        node: node.to_string(),
        busy: load.busy,
        time: load.time,
        memory_bytes: load.memory_bytes,
        available_bytes: load.available_bytes,
        memory_pressure: load.memory_pressure,
        temperature: load.temperature,
        is_slowed: load.is_slowed,
        undervoltage: load.undervoltage,
        disk_free: load.disk_free,
        room: load.room.as_str().to_owned(),
        cause: load.cause,
    }
}

fn scale_of(node: &NodeId, report: &ScaleReport) -> ScaleLoadView {
    ScaleLoadView {
        service: format!("{}.{}", report.application, report.service),
        scale: node_scale_view(node.as_str(), report),
    }
}

fn view_of(node: &NodeId, load: InstanceLoad) -> LoadView {
    LoadView {
        instance: load.instance.to_string(),
        node: node.to_string(),
        at_ms: load.at_ms,
        cpu_us: load.cpu_us,
        memory_bytes: load.memory_bytes,
        memory_limit_bytes: load.memory_limit_bytes,
        pids: load.pids,
        pids_limit: load.pids_limit,
        received_bytes: load.received_bytes,
        sent_bytes: load.sent_bytes,
        pressure: load.pressure.map(|it| PressureView {
            cpu: it.cpu,
            memory: it.memory,
            io: it.io,
        }),
    }
}
