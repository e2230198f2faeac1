//! What only the printed form shows: the project's name, the default network, full names of
//! resources; and the YAML text itself, keys in alphabetical order under the specification's
//! sections.

use serde::Serialize;
use serde::ser::{SerializeMap as _, SerializeSeq as _, Serializer};

use crate::node::{Mapping, Node, Value};
use crate::paths::children;

const ORDER: [&str; 7] =
    ["name", "services", "networks", "volumes", "secrets", "configs", "models"];

/// Adds names and defaults.
pub(super) fn defaults(tree: &mut Node, name: &str) {
    if let Some(mapping) = tree.as_mapping_mut() {
        mapping.shift_remove("version");
    }
    tree.set("name", Value::Text(name.to_owned()));
    let mut default_is_used = false;
    for service in children(tree.get_mut("services")) {
        if let Some(mapping) = service.as_mapping_mut() {
            mapping.shift_remove("extends");
        }
        if service.get("network_mode").is_none() && service.get("networks").is_none() {
            let place = service.place.clone();
            let networks = Node::mapping_of(&place, vec![("default", Value::Null)]);
            service.set("networks", networks.value);
        }
        default_is_used |= service.get("networks").is_some_and(|all| all.get("default").is_some());
    }
    if default_is_used {
        if tree.get("networks").is_none() {
            tree.set("networks", Value::Mapping(Mapping::new()));
        }
        if let Some(networks) = tree.get_mut("networks")
            && networks.get("default").is_none()
        {
            networks.set("default", Value::Mapping(Mapping::new()));
        }
    }
    for section in ["networks", "volumes", "secrets", "configs"] {
        let Some(resources) = tree.get_mut(section).and_then(Node::as_mapping_mut) else {
            continue;
        };
        for (key, entry) in resources {
            if entry.node.get("name").is_none() {
                let external = entry.node.get("external").is_some_and(Node::is_true);
                let full = if external { key.clone() } else { format!("{name}_{key}") };
                entry.node.set("name", Value::Text(full));
            }
        }
    }
}

/// The document as YAML.
pub(super) fn yaml(document: &serde_json::Value) -> String {
    // The document has only texts, numbers, lists and mappings of texts: nothing that fails.
    let options = serde_saphyr::ser_options! { compact_list_indent: false };
    serde_saphyr::to_string_with_options(&Ordered(document, true), options).unwrap_or_default()
}

/// The tree as JSON, with `$` written as `$$`: what is printed can be read again.
pub(super) fn document(tree: &Node) -> serde_json::Value {
    let mut document = tree.to_json();
    escape(&mut document);
    document
}

fn escape(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) if text.contains('$') => *text = text.replace('$', "$$"),
        serde_json::Value::Array(items) => items.iter_mut().for_each(escape),
        serde_json::Value::Object(object) => object.values_mut().for_each(escape),
        _ => {}
    }
}

/// A value whose keys are printed in a fixed order, whatever map the JSON library has.
struct Ordered<'a>(&'a serde_json::Value, bool);

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            serde_json::Value::Object(object) => {
                let mut keys: Vec<&String> = object.keys().collect();
                let section = |key: &String| {
                    let place = ORDER.iter().position(|known| known == key);
                    if self.1 { place.unwrap_or(ORDER.len()) } else { 0 }
                };
                keys.sort_by_key(|key| (section(key), *key));
                let mut map = serializer.serialize_map(Some(keys.len()))?;
                for key in keys {
                    if let Some(value) = object.get(key) {
                        map.serialize_entry(key, &Ordered(value, false))?;
                    }
                }
                map.end()
            }
            serde_json::Value::Array(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(&Ordered(item, false))?;
                }
                list.end()
            }
            scalar => scalar.serialize(serializer),
        }
    }
}
