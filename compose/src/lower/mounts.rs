//! `volumes`, `tmpfs` and `devices`.

use limpet_protocol::id::{ApplicationName, ServiceName};
use limpet_protocol::spec::{Device, Mount, MountSource};

use super::reader::Reader;
use crate::node::Node;
use crate::units;

pub(super) fn mounts(
    tree: &Node,
    application: &ApplicationName,
    service: &ServiceName,
    reader: &mut Reader,
) -> Vec<Mount> {
    let mut found: Vec<Mount> = Vec::new();
    for (index, item) in reader.items("volumes").iter().enumerate() {
        let path = format!("volumes[{index}]");
        let part = |key: &str| item.get(key).and_then(Node::scalar);
        let target = part("target").unwrap_or_default().to_owned();
        let source = match part("type") {
            Some("bind") => bind(item, &mut reader.at(&path)),
            Some("tmpfs") => Some(memory(item, &mut reader.at(&path))),
            Some("volume") => {
                let name = match part("source") {
                    Some(name) => volume_name(tree, application, name),
                    None => unnamed(application, service, (item, &target), &mut reader.at(&path)),
                };
                let option = |key: &str| item.get("volume").and_then(|volume| volume.get(key));
                let no_copy = option("nocopy").is_some_and(Node::is_true);
                let subpath = subpath(option("subpath"), &mut reader.at(&path));
                Some(MountSource::Volume { name, no_copy, subpath })
            }
            other => {
                let message = format!("Limpet has no mounts of type {:?}", other.unwrap_or(""));
                reader.at(&path).refuse(item, message, "known are bind, volume and tmpfs");
                None
            }
        };
        let read_only = item.get("read_only").is_some_and(Node::is_true);
        add(&mut found, item, (target, source, read_only), &mut reader.at(&path));
    }
    for (index, item) in reader.items("tmpfs").iter().enumerate() {
        let path = format!("tmpfs[{index}]");
        let (target, source, read_only) = tmpfs(item, &mut reader.at(&path));
        add(&mut found, item, (target, Some(source), read_only), &mut reader.at(&path));
    }
    found
}

fn add(
    found: &mut Vec<Mount>,
    item: &Node,
    (target, source, read_only): (String, Option<MountSource>, bool),
    reader: &mut Reader,
) {
    let parts_are_plain = target.split('/').all(|part| part != "..");
    if !target.starts_with('/') || !parts_are_plain || target == "/" {
        let message = format!("expected an absolute path in the container, found {target:?}");
        reader.fail(item, message);
    } else if found.iter().any(|known| known.target == target) {
        reader.fail(item, format!("something is mounted at {target} already"));
    } else if let Some(source) = source {
        found.push(Mount { target, source, read_only });
    }
}

fn bind(item: &Node, reader: &mut Reader) -> Option<MountSource> {
    let path = item.get("source").and_then(Node::scalar).unwrap_or_default();
    if !path.starts_with('/') {
        reader.fail(item, format!("expected a path of the node, found {path:?}"));
        return None;
    }
    let create = item.get("bind").and_then(|bind| bind.get("create_host_path"));
    // The specification: the long syntax, too, makes the folder unless it says false.
    let create = create.is_none_or(Node::is_true);
    Some(MountSource::Bind { path: path.to_owned(), create })
}

/// `application_volume`, or what the volume's own `name` says.
fn volume_name(tree: &Node, application: &ApplicationName, name: &str) -> String {
    let volume = tree.get("volumes").and_then(|all| all.get(name));
    let own = volume.and_then(|volume| volume.get("name")).and_then(Node::scalar);
    let external = volume.and_then(|volume| volume.get("external")).is_some_and(Node::is_true);
    match own {
        Some(own) => own.to_owned(),
        None if external => name.to_owned(),
        None => format!("{application}_{name}"),
    }
}

fn unnamed(
    application: &ApplicationName,
    service: &ServiceName,
    (item, target): (&Node, &str),
    reader: &mut Reader,
) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let tail: String = target.trim_matches('/').chars().map(legal).collect();
    let name = format!("{application}_{service}_{tail}");
    reader.warn(
        item,
        format!(
            "a volume without a name: it is kept as {name:?}, which all instances on a node share"
        ),
        "give it a name under `volumes:`, or use `tmpfs` if nothing is to be kept",
    );
    name
}

/// A folder within the volume, which the mount cannot leave.
fn subpath(item: Option<&Node>, reader: &mut Reader) -> Option<String> {
    let item = item.filter(|item| !item.is_null())?;
    let text = item.scalar().unwrap_or_default();
    if !limpet_protocol::spec::is_subpath(text) {
        let message = format!("expected a path within the volume such as data/web, found {text:?}");
        reader.fail(item, message);
        return None;
    }
    Some(text.to_owned())
}

/// The specification calls the mode an octal number, in whatever way it is written.
pub(super) fn mode(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    u32::from_str_radix(digits, 8).ok().filter(|&mode| mode <= 0o7777)
}

fn memory(item: &Node, reader: &mut Reader) -> MountSource {
    let part = |key: &str| item.get("tmpfs").and_then(|tmpfs| tmpfs.get(key));
    let size_bytes = part("size").and_then(Node::scalar).and_then(|text| text.parse().ok());
    let mode_node = part("mode");
    let mode = mode_node.and_then(Node::scalar).and_then(mode);
    if let (Some(node), None) = (mode_node, mode) {
        let message = format!("expected permission bits such as 1777, found {}", node.kind());
        reader.fail(node, message);
    }
    MountSource::Tmpfs { size_bytes: size_bytes.filter(|&bytes: &u64| bytes > 0), mode }
}

/// `PATH[:OPTION,...]`.
fn tmpfs(item: &Node, reader: &mut Reader) -> (String, MountSource, bool) {
    let text = item.scalar().unwrap_or_default();
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let (mut size_bytes, mut bits, mut read_only) = (None, None, false);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let fits = match name {
            "size" => {
                size_bytes = units::bytes(value);
                size_bytes.is_some()
            }
            "mode" => {
                bits = mode(value);
                bits.is_some()
            }
            "ro" => {
                read_only = true;
                true
            }
            // What every tmpfs of Limpet is anyway.
            "rw" | "nosuid" | "nodev" => true,
            _ => {
                let message = format!("the option {option:?} has no effect in Limpet");
                reader.warn(item, message, "known are size, mode, ro and rw");
                true
            }
        };
        if !fits {
            reader.fail(item, format!("{option:?} is no {name}"));
        }
    }
    (target.to_owned(), MountSource::Tmpfs { size_bytes, mode: bits }, read_only)
}

pub(super) fn devices(reader: &mut Reader) -> Vec<Device> {
    let mut found = Vec::new();
    for (index, item) in reader.items("devices").iter().enumerate() {
        let path = format!("devices[{index}]");
        let part = |key: &str| item.get(key).and_then(Node::scalar);
        let host_path = part("source").unwrap_or_default().to_owned();
        let container_path = part("target").unwrap_or(&host_path).to_owned();
        let permissions = part("permissions").unwrap_or("rwm").to_owned();
        if !host_path.starts_with('/') || !container_path.starts_with('/') {
            let message = format!("expected a path such as /dev/ttyUSB0, found {host_path:?}");
            let advice =
                "devices by class (CDI) are not known in this version: name the device node";
            reader.at(&path).refuse(item, message, advice);
        } else if permissions.is_empty() || !permissions.bytes().all(|b| b"rwm".contains(&b)) {
            let message = format!("expected any of r, w and m, found {permissions:?}");
            reader.at(&path).fail(item, message);
        } else {
            found.push(Device { host_path, container_path, permissions });
        }
    }
    found
}
