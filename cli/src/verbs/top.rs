//! `limpet top`: what instances use now.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use limpet_controller::api::types::{
    FigureView, InstanceView, LoadList, LoadView, NodeLoadView, NodeScaleView, PressureView,
    ScaleLoadView,
};
use limpet_protocol::scale::in_words;
use serde::Serialize;

use crate::client::Client;
use crate::output::{self, Column, Format, ListArgs, bytes, column, wide};
use crate::{complain, targets};

/// How often it asks anew.
const PERIOD: Duration = Duration::from_secs(2);
/// The time between the two looks that make the first share of the processor.
const FIRST_PERIOD: Duration = Duration::from_millis(700);
/// Clears a terminal: cursor home, then erase to the end.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Arguments of `limpet top`.
#[derive(Debug, Args)]
#[command(after_help = "\
CPU is in percent of one processor: 150 % is one and a half. MEMORY is without what the kernel takes back at once.
IN and OUT are what comes and goes over the instance's network. WAITS (-o wide) is for how much of the last ten
seconds it waited for a processor, memory or a disk, where the kernel counts that (cgroup version 2).
Of nodes CPU is in percent of all processors; ROOM says whether services may get more instances there.
Nodes are asked only while this runs. Of services that follow their load it is shown too what their nodes decide, and why.

Examples:
  limpet top                      everything that runs, anew every two seconds
  limpet top shop.web             the instances of one service
  limpet top --no-stream -o json  once, for scripts")]
pub struct TopArgs {
    /// A service, APP.SERVICE, APP.SERVICE.SLOT or an application
    #[arg(value_name = "APP|SERVICE|INSTANCE")]
    targets: Vec<String>,
    /// Show it once and end
    #[arg(long)]
    no_stream: bool,
    #[command(flatten)]
    list: ListArgs,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Row {
    instance: String,
    node: String,
    /// In percent of one processor; none before a second look.
    cpu_percent: Option<f64>,
    memory_bytes: u64,
    memory_limit_bytes: Option<u64>,
    pids: u32,
    pids_limit: Option<u32>,
    /// None before a second look, and without a network of its own.
    received_bytes_per_second: Option<u64>,
    sent_bytes_per_second: Option<u64>,
    /// None where the kernel does not tell.
    pressure: Option<PressureView>,
}

/// Shows what instances use.
///
/// # Errors
/// If the controller does not answer, or the words mean nothing.
pub async fn run(args: &TopArgs, client: &Client) -> anyhow::Result<()> {
    let stream = !args.no_stream && output::is_terminal() && args.list.output != Format::Json;
    let mut before = look(args, client).await?;
    tokio::time::sleep(FIRST_PERIOD).await;
    loop {
        let now = look(args, client).await?;
        let rows = rows(&before, &now);
        if stream {
            output::print(CLEAR)?;
        }
        output::list(&args.list, &columns(), &rows)?;
        if args.list.output != Format::Json {
            show_nodes(args, (&before, &now))?;
            show_scales(args, client, &now).await?;
        }
        for (node, why) in &now.unanswered {
            complain(&format!("node {node} is left out: {why}"));
        }
        if !stream {
            return Ok(());
        }
        before = now;
        tokio::time::sleep(PERIOD).await;
    }
}

/// What the nodes have used and have left on which an instance is shown.
fn show_nodes(args: &TopArgs, (before, now): (&LoadList, &LoadList)) -> anyhow::Result<()> {
    if now.nodes.is_empty() {
        return Ok(());
    }
    let row = |node: &NodeLoadView| {
        let last = before.nodes.iter().find(|it| it.node == node.node);
        NodeRow { busy_percent: last.and_then(|last| busy(last, node)), node: node.clone() }
    };
    let rows: Vec<NodeRow> = now.nodes.iter().map(row).collect();
    output::print("\n")?;
    Ok(output::list(&args.list, &node_columns(), &rows)?)
}

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct NodeRow {
    /// In percent of all its processors.
    busy_percent: Option<f64>,
    #[serde(flatten)]
    node: NodeLoadView,
}

/// None where the node began anew in between.
fn busy(before: &NodeLoadView, now: &NodeLoadView) -> Option<f64> {
    let time = now.time.checked_sub(before.time).filter(|time| *time > 0)?;
    let busy = now.busy.checked_sub(before.busy)?;
    let (busy, time) = (u32::try_from(busy).ok()?, u32::try_from(time).ok()?);
    Some((f64::from(busy) / f64::from(time) * 1000.0).round() / 10.0)
}

fn node_columns() -> [Column<NodeRow>; 6] {
    [
        column("NODE", |row, _| row.node.node.as_str().into()),
        column("CPU", |row, _| percent(row.busy_percent).into()),
        column("MEMORY", |row, _| {
            let used = row.node.memory_bytes.saturating_sub(row.node.available_bytes);
            format!("{} / {}", bytes(used), bytes(row.node.memory_bytes)).into()
        }),
        column("HEAT", |row, _| {
            let degrees = |heat: i32| format!("{:.1} °C", f64::from(heat) / 1000.0);
            row.node.temperature.map_or_else(|| "-".to_owned(), degrees).into()
        }),
        column("DISK FREE", |row, _| {
            let share = |free: u32| format!("{} %", free / 10);
            row.node.disk_free.map_or_else(|| "-".to_owned(), share).into()
        }),
        column("ROOM", |row, _| match &row.node.cause {
            Some(cause) => format!("{}: {cause}", row.node.room).into(),
            None => row.node.room.as_str().into(),
        }),
    ]
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{share:.1} %"))
}

/// A service that follows its load, on one node.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct ScaleRow {
    service: String,
    bounds: String,
    node: NodeScaleView,
}

/// What nodes decide about services of which an instance is shown.
async fn show_scales(args: &TopArgs, client: &Client, now: &LoadList) -> anyhow::Result<()> {
    let mut rows = vec![];
    for application in client.applications().await?.items {
        for service in application.services {
            let Some(scale) = service.scale else { continue };
            let name = format!("{}.{}", application.name, service.name);
            let is_shown =
                |load: &LoadView| load.instance.rsplit_once('.').is_some_and(|(of, _)| of == name);
            if !args.targets.is_empty() && !now.items.iter().any(is_shown) {
                continue;
            }
            let bounds = format!("{}-{}", scale.min, scale.max);
            rows.extend(scale.nodes.into_iter().map(|node| ScaleRow {
                service: name.clone(),
                bounds: bounds.clone(),
                node: of_now(now, &name, node),
            }));
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    output::print("\n")?;
    Ok(output::list(&args.list, &scale_columns(), &rows)?)
}

/// What the node says now, if it says something.
fn of_now(now: &LoadList, service: &str, last: NodeScaleView) -> NodeScaleView {
    let is_it = |it: &&ScaleLoadView| it.service == service && it.scale.node == last.node;
    now.scales.iter().find(is_it).map(|it| it.scale.clone()).unwrap_or(last)
}

fn scale_columns() -> [Column<ScaleRow>; 7] {
    [
        column("SERVICE", |row, _| row.service.as_str().into()),
        column("NODE", |row, _| row.node.node.as_str().into()),
        column("RUNS", |row, _| row.node.running.into()),
        column("WANTED", |row, _| row.node.wish.into()),
        column("BOUNDS", |row, _| row.bounds.as_str().into()),
        column("LIMIT", |row, _| row.node.limit.as_str().into()),
        column("FIGURES", |row, _| figures(&row.node).into()),
    ]
}

/// `cpu 92.3/60, queue ?/100`.
fn figures(node: &NodeScaleView) -> String {
    let one = |figure: &FigureView| {
        let value = figure.value_thousandths.map_or_else(|| "?".to_owned(), in_words);
        let why = figure.missing.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        format!("{} {value}/{}{why}", figure.metric, in_words(figure.target_thousandths))
    };
    node.figures.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// What the chosen instances use, asked of the nodes that they are on.
async fn look(args: &TopArgs, client: &Client) -> anyhow::Result<LoadList> {
    let all = client.instances(None).await?.items;
    let mut chosen: Vec<&InstanceView> = Vec::new();
    for word in &args.targets {
        chosen.extend(targets::resolve(word, &all)?);
    }
    if args.targets.is_empty() {
        chosen = all.iter().collect();
    }
    let mut nodes: Vec<&str> = chosen.iter().filter_map(|item| item.node.as_deref()).collect();
    nodes.sort_unstable();
    nodes.dedup();
    if nodes.is_empty() {
        return Ok(LoadList::default());
    }
    let mut list = client.load(&nodes).await?;
    list.items.retain(|load| chosen.iter().any(|item| item.instance == load.instance));
    Ok(list)
}

/// The second look, with the share of the processor since the first.
fn rows(before: &LoadList, now: &LoadList) -> Vec<Row> {
    let key = |load: &LoadView| (load.instance.clone(), load.node.clone());
    let known: BTreeMap<_, &LoadView> = before.items.iter().map(|load| (key(load), load)).collect();
    let row = |load: &LoadView| Row {
        instance: load.instance.clone(),
        node: load.node.clone(),
        cpu_percent: known.get(&key(load)).and_then(|before| share(before, load)),
        received_bytes_per_second: known
            .get(&key(load))
            .and_then(|before| rate((before, load), |it| it.received_bytes)),
        sent_bytes_per_second: known
            .get(&key(load))
            .and_then(|before| rate((before, load), |it| it.sent_bytes)),
        memory_bytes: load.memory_bytes,
        memory_limit_bytes: load.memory_limit_bytes,
        pids: load.pids,
        pids_limit: load.pids_limit,
        pressure: load.pressure,
    };
    let mut rows: Vec<Row> = now.items.iter().map(row).collect();
    let share = |row: &Row| row.cpu_percent.unwrap_or(-1.0);
    rows.sort_by(|a, b| share(b).total_cmp(&share(a)));
    rows
}

/// None where a new container began in between.
fn share(before: &LoadView, now: &LoadView) -> Option<f64> {
    let took_ms = now.at_ms.checked_sub(before.at_ms).filter(|ms| *ms > 0)?;
    let used_us = u32::try_from(now.cpu_us.checked_sub(before.cpu_us)?).ok()?;
    let took_us = f64::from(u32::try_from(took_ms).ok()?) * 1000.0;
    Some((f64::from(used_us) / took_us * 1000.0).round() / 10.0)
}

/// Bytes a second; none where a new container began in between.
fn rate(
    (before, now): (&LoadView, &LoadView),
    of: impl Fn(&LoadView) -> Option<u64>,
) -> Option<u64> {
    let took_ms = now.at_ms.checked_sub(before.at_ms).filter(|ms| *ms > 0)?;
    Some(of(now)?.checked_sub(of(before)?)?.saturating_mul(1_000) / took_ms)
}

fn per_second(rate: Option<u64>) -> String {
    rate.map_or_else(|| "-".to_owned(), |rate| format!("{}/s", bytes(rate)))
}

/// `cpu 12.5 %, memory 0.0 %, io 0.0 %`.
fn waits(pressure: Option<PressureView>) -> String {
    let Some(PressureView { cpu, memory, io }) = pressure else { return "-".to_owned() };
    let share = |of: u32| format!("{}.{} %", of / 100, of % 100 / 10);
    format!("cpu {}, memory {}, io {}", share(cpu), share(memory), share(io))
}

fn columns() -> [Column<Row>; 8] {
    [
        column("INSTANCE", |row, _| row.instance.as_str().into()),
        column("NODE", |row, _| row.node.as_str().into()),
        column("CPU", |row, _| percent(row.cpu_percent).into()),
        column("MEMORY", |row, _| match row.memory_limit_bytes {
            Some(limit) => format!("{} / {}", bytes(row.memory_bytes), bytes(limit)).into(),
            None => bytes(row.memory_bytes).into(),
        }),
        column("PIDS", |row, _| row.pids.into()),
        column("IN", |row, _| per_second(row.received_bytes_per_second).into()),
        column("OUT", |row, _| per_second(row.sent_bytes_per_second).into()),
        wide("WAITS", |row, _| waits(row.pressure).into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(instance: &str, at_ms: u64, cpu_us: u64) -> LoadView {
        LoadView {
            instance: instance.to_owned(),
            node: "n1".to_owned(),
            at_ms,
            cpu_us,
            memory_bytes: 1,
            memory_limit_bytes: None,
            pids: 1,
            pids_limit: None,
            received_bytes: (cpu_us < 1_000_000).then_some(cpu_us),
            sent_bytes: None,
            pressure: None,
        }
    }

    #[test]
    fn what_waits_and_what_works_is_in_percent() {
        let pressure = Some(PressureView { cpu: 1_250, memory: 5, io: 100 });
        assert_eq!(waits(pressure), "cpu 12.5 %, memory 0.0 %, io 1.0 %");
        assert_eq!((waits(None), percent(None)), ("-".into(), "-".into()));
        let node = |busy, time| NodeLoadView {
            node: "n1".to_owned(),
            busy,
            time,
            memory_bytes: 0,
            available_bytes: 0,
            memory_pressure: None,
            temperature: None,
            is_slowed: false,
            undervoltage: false,
            disk_free: None,
            room: "ample".to_owned(),
            cause: None,
        };
        assert_eq!(busy(&node(10, 100), &node(35, 300)), Some(12.5));
        assert_eq!(busy(&node(10, 100), &node(1, 20)), None, "it began anew");
    }

    #[test]
    fn a_rate_is_the_difference_of_two() {
        let rate = |before: (u64, u64), now: (u64, u64)| {
            let (before, now) = (load("a", before.0, before.1), load("a", now.0, now.1));
            rate((&before, &now), |it| it.received_bytes)
        };
        assert_eq!(rate((1000, 0), (3000, 100_000)), Some(50_000));
        assert_eq!(rate((1000, 500), (3000, 5)), None, "another container");
        assert_eq!(rate((1000, 0), (1000, 5)), None);
        assert_eq!(rate((1000, 0), (3000, 2_000_000)), None, "it has no network of its own");
        assert_eq!((per_second(None), per_second(Some(2048))), ("-".into(), "2.00 KiB/s".into()));
    }

    #[test]
    fn the_busiest_comes_first_and_new_ones_have_no_share() {
        let list = |items| LoadList { items, ..LoadList::default() };
        let before = list(vec![load("a", 1000, 0), load("b", 1000, 500), load("c", 1000, 900)]);
        let now = list(vec![
            load("a", 3000, 100_000),
            load("b", 3000, 3_000_500),
            load("c", 3000, 5),
            load("d", 3000, 7),
        ]);
        let rows = rows(&before, &now);
        let shown: Vec<_> =
            rows.iter().map(|row| (row.instance.as_str(), row.cpu_percent)).collect();
        let expected = [("b", Some(150.0)), ("a", Some(5.0)), ("c", None), ("d", None)];
        assert_eq!(shown, expected);
    }
}
