//! How much: memory, CPU, processes; `deploy.resources` and the older keys of a service.

use limpet_protocol::spec::Resources;

use super::reader::Reader;
use crate::node::Node;
use crate::units;

const DEFAULT_CPU_PERIOD_US: u64 = 100_000;

pub(super) fn resources(reader: &mut Reader) -> Resources {
    let limits = "deploy.resources.limits";
    let reservations = "deploy.resources.reservations";
    let found = Resources {
        memory_limit_bytes: bytes(reader, "mem_limit", &format!("{limits}.memory")),
        memory_reservation_bytes: bytes(
            reader,
            "mem_reservation",
            &format!("{reservations}.memory"),
        ),
        cpu_limit_millis: cpu_limit(reader, &format!("{limits}.cpus")),
        cpu_reservation_millis: cpus(reader, &format!("{reservations}.cpus")),
        cpu_shares: reader.integer("cpu_shares", 0, 262_144).and_then(positive),
        cpuset: cpuset(reader),
        pids_limit: pids(reader, &format!("{limits}.pids")),
        shm_size_bytes: plain_bytes(reader.get("shm_size")),
        memory_and_swap_bytes: memory_and_swap(reader),
        memory_swappiness: reader
            .integer("mem_swappiness", 0, 100)
            .and_then(|number| u8::try_from(number).ok()),
    };
    let above = |reserved: Option<u64>, limit: Option<u64>| matches!((reserved, limit), (Some(reserved), Some(limit)) if reserved > limit);
    if above(found.memory_reservation_bytes, found.memory_limit_bytes) {
        let node =
            reader.get("mem_reservation").or(reader.get("deploy.resources.reservations.memory"));
        let node = node.unwrap_or(reader.node);
        reader.at("deploy.resources").fail(node, "more memory is reserved than the limit allows");
    }
    if above(found.cpu_reservation_millis.map(u64::from), found.cpu_limit_millis.map(u64::from)) {
        let node = reader.get("deploy.resources.reservations.cpus").unwrap_or(reader.node);
        reader.at("deploy.resources").fail(node, "more CPU is reserved than the limit allows");
    }
    found
}

/// -1 is no limit; nothing and zero leave it to the limit of memory.
fn memory_and_swap(reader: &mut Reader) -> Option<i64> {
    let node = reader.get("memswap_limit")?;
    let bytes = match node.scalar() {
        Some("-1") => return Some(-1),
        text => text.and_then(|text| text.parse::<i64>().ok()).filter(|bytes| *bytes > 0)?,
    };
    let (memory, _) = reader.either("mem_limit", "deploy.resources.limits.memory").unzip();
    match plain_bytes(memory).and_then(|memory| i64::try_from(memory).ok()) {
        None => {
            let message = "swap is limited together with memory, which has no limit";
            reader.at("memswap_limit").refuse(node, message, "add `mem_limit`");
        }
        Some(memory) if bytes < memory => {
            let message = "memory and swap together are less than memory alone";
            reader.at("memswap_limit").refuse(node, message, "write `mem_limit` plus the swap");
        }
        Some(_) => {}
    }
    Some(bytes)
}

fn positive(number: i64) -> Option<u64> {
    u64::try_from(number).ok().filter(|&number| number > 0)
}

fn plain_bytes(node: Option<&Node>) -> Option<u64> {
    node?.scalar()?.parse::<u64>().ok().filter(|&bytes| bytes > 0)
}

/// Nothing, zero and -1 all mean that there is no limit.
fn bytes(reader: &mut Reader, old: &str, new: &str) -> Option<u64> {
    let (node, _) = reader.either(old, new)?;
    plain_bytes(Some(node))
}

fn cpus(reader: &mut Reader, key: &str) -> Option<u32> {
    let node = reader.get(key)?;
    let millis = node.scalar().and_then(units::thousandths);
    if millis.is_none() {
        reader.at(key).fail(node, format!("expected a number of CPUs, found {}", node.kind()));
    }
    let tiny = millis == Some(0) && node.scalar() != Some("0");
    if tiny {
        reader.at(key).fail(node, "less than a thousandth of a CPU");
    }
    millis.filter(|&millis| millis > 0)
}

fn cpu_limit(reader: &mut Reader, new: &str) -> Option<u32> {
    let limit = reader.either("cpus", new).and_then(|(_, key)| cpus(reader, &key));
    let Some(quota) = reader.integer("cpu_quota", -1, i64::from(u32::MAX)).and_then(positive)
    else {
        return limit;
    };
    let period = reader.integer("cpu_period", 1000, 1_000_000).and_then(positive);
    let millis = quota * 1000 / period.unwrap_or(DEFAULT_CPU_PERIOD_US);
    let millis = u32::try_from(millis).unwrap_or(u32::MAX);
    if let Some(limit) = limit.filter(|&limit| limit != millis) {
        let node = reader.get("cpu_quota").unwrap_or(reader.node);
        let message =
            format!("`cpu_quota` allows {millis} thousandths of a CPU, `cpus` allows {limit}");
        reader.at("cpu_quota").refuse(node, message, "keep `cpus`");
    }
    Some(millis.max(1))
}

fn pids(reader: &mut Reader, new: &str) -> Option<u32> {
    let (_, key) = reader.either("pids_limit", new)?;
    let number = reader.integer(&key, -1, i64::from(u32::MAX))?;
    u32::try_from(number).ok().filter(|&number| number > 0)
}

fn cpuset(reader: &mut Reader) -> Option<String> {
    let node = reader.get("cpuset")?;
    let text = reader.text("cpuset").filter(|text| !text.is_empty())?;
    let legal = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(first), Ok(last)) if first <= last)
    };
    if !text.split(',').all(legal) {
        let message = format!("expected CPUs such as 0-2,4, found {text:?}");
        reader.at("cpuset").fail(node, message);
    }
    Some(text)
}
