//! What is run: command, variables, user, limits of the process.

use std::collections::BTreeMap;

use limpet_protocol::spec::{Process, Ulimit};

use super::reader::Reader;
use crate::node::Node;
use crate::units;

const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

pub(super) fn process(reader: &mut Reader) -> Process {
    Process {
        entrypoint: reader.words("entrypoint"),
        command: reader.words("command"),
        environment: reader.pairs("environment"),
        working_dir: working_dir(reader),
        user: reader.text("user").filter(|user| !user.is_empty()),
        group_add: reader.texts("group_add"),
        hostname: host_name(reader, "hostname"),
        domainname: host_name(reader, "domainname"),
        init: reader.flag("init"),
        tty: reader.flag("tty"),
        stdin_open: reader.flag("stdin_open"),
        oom_score_adj: oom_score_adj(reader),
        ulimits: ulimits(reader),
    }
}

fn working_dir(reader: &mut Reader) -> Option<String> {
    let node = reader.get("working_dir")?;
    let text = reader.text("working_dir").filter(|text| !text.is_empty())?;
    if !text.starts_with('/') {
        reader.at("working_dir").fail(node, format!("expected an absolute path, found {text:?}"));
    }
    Some(text)
}

fn host_name(reader: &mut Reader, key: &str) -> Option<String> {
    const LONGEST: usize = 64; // HOST_NAME_MAX of Linux
    let node = reader.get(key)?;
    let text = reader.text(key).filter(|text| !text.is_empty())?;
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if text.len() > LONGEST || !text.bytes().all(legal) {
        let message = format!("{text:?} is no host name of at most {LONGEST} letters");
        reader.at(key).fail(node, message);
    }
    Some(text)
}

fn oom_score_adj(reader: &mut Reader) -> i32 {
    let number = reader.integer("oom_score_adj", -1000, 1000).unwrap_or(0);
    if let Some(node) = reader.get("oom_score_adj").filter(|_| number < 0) {
        let message = "a container is never safer from the kernel's killer than the agent";
        reader.at("oom_score_adj").refuse(node, message, "write a number from 0 to 1000");
    }
    i32::try_from(number.max(0)).unwrap_or(0)
}

fn ulimits(reader: &mut Reader) -> BTreeMap<String, Ulimit> {
    let mut found = BTreeMap::new();
    let all = reader.get("ulimits").and_then(Node::as_mapping);
    for (name, entry) in all.into_iter().flatten() {
        let node = &entry.node;
        let path = format!("ulimits.{name}");
        if !ULIMITS.contains(&name.as_str()) {
            let near = units::nearest(name, ULIMITS.into_iter());
            let advice = near.map_or_else(
                || format!("known are {}", ULIMITS.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            reader.at(&path).refuse(node, format!("there is no limit {name:?}"), &advice);
            continue;
        }
        let number = |key: &str| node.get(key).and_then(Node::scalar)?.parse::<i64>().ok();
        match (number("soft"), number("hard")) {
            (Some(soft), Some(hard)) if soft >= -1 && hard >= -1 => {
                if hard >= 0 && (soft > hard || soft == -1) {
                    let message = format!("the soft limit {soft} is above the hard limit {hard}");
                    reader.at(&path).fail(node, message);
                }
                found.insert(name.clone(), Ulimit { soft, hard });
            }
            _ => reader
                .at(&path)
                .fail(node, "expected a number, or `soft` and `hard`; -1 is unlimited"),
        }
    }
    found
}
