//! The table is equal to the schema, and the documentation to the table.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::*;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every key that the schema names, as a pattern; `depth` ends what refers to itself.
fn schema_keys(
    schema: &Value,
    node: &Value,
    pattern: &str,
    found: &mut BTreeSet<String>,
    depth: usize,
) {
    if depth > 24 {
        return;
    }
    if let Some(reference) = node["$ref"].as_str() {
        let target = schema.pointer(reference.trim_start_matches('#')).unwrap();
        return schema_keys(schema, target, pattern, found, depth + 1);
    }
    for (name, below) in node["properties"].as_object().into_iter().flatten() {
        let pattern = if pattern.is_empty() { name.clone() } else { format!("{pattern}.{name}") };
        found.insert(pattern.clone());
        schema_keys(schema, below, &pattern, found, depth + 1);
    }
    for (name, below) in node["patternProperties"].as_object().into_iter().flatten() {
        if name != "^x-" {
            schema_keys(schema, below, &format!("{pattern}.*"), found, depth + 1);
        }
    }
    if node["additionalProperties"].is_object() {
        let below = &node["additionalProperties"];
        schema_keys(schema, below, &format!("{pattern}.*"), found, depth + 1);
    }
    if node["items"].is_object() {
        schema_keys(schema, &node["items"], &format!("{pattern}[]"), found, depth + 1);
    }
    for choice in ["oneOf", "anyOf", "allOf"] {
        for below in node[choice].as_array().into_iter().flatten() {
            schema_keys(schema, below, pattern, found, depth + 1);
        }
    }
}

#[test]
fn the_table_knows_exactly_the_keys_of_the_schema() {
    let text = std::fs::read_to_string(root().join("tests/data/compose-spec.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();
    let mut expected = BTreeSet::new();
    schema_keys(&schema, &schema, "", &mut expected, 0);
    assert!(expected.len() > 250, "the schema was walked: {}", expected.len());
    let table: BTreeSet<String> = all().map(|(path, _)| path.to_owned()).collect();
    let missing: Vec<&String> = expected.difference(&table).collect();
    assert!(missing.is_empty(), "put these keys into the table: {missing:#?}");
    let surplus: Vec<&String> = table.difference(&expected).filter(|key| !key.is_empty()).collect();
    assert!(surplus.is_empty(), "the schema does not have these keys: {surplus:#?}");
}

#[test]
fn every_row_can_be_reached_and_says_what_to_do() {
    for (path, key) in TABLE.iter().filter(|(path, _)| !path.is_empty()) {
        if let Status::Reported(advice) | Status::Refused(advice) = key.status {
            assert!(advice.len() > 8, "{path} has no advice");
        }
        let parent = match path.strip_suffix("[]").or_else(|| path.strip_suffix(".*")) {
            Some(parent) => parent,
            None => path.rsplit_once('.').map_or("", |(parent, _)| parent),
        };
        let shape = find(parent).map(|parent| parent.shape);
        let fits = match shape {
            Some(Shape::Map) => !path.ends_with(['*', ']']),
            Some(Shape::Names) => path.ends_with(".*"),
            Some(Shape::List) => path.ends_with("[]"),
            // `external` has an old form that is made new before.
            Some(Shape::Bool) => path.ends_with("external.name"),
            _ => false,
        };
        assert!(fits, "{path} is not below its parent, which is {shape:?}");
    }
}

#[test]
fn every_honoured_key_says_since_when() {
    let version = |text: &str| -> Vec<u32> {
        text.split('.').map(|part| part.parse().expect("a number of a version")).collect()
    };
    let current = version(env!("CARGO_PKG_VERSION"));
    for (path, key) in rows() {
        let honoured = matches!(key.status, Status::Honoured(_));
        assert_eq!(honoured, !key.since.is_empty(), "{path}");
        if honoured {
            let since = version(key.since);
            assert!(since.len() == 3 && since <= current, "{path} is honoured since {}", key.since);
        }
    }
}

#[test]
fn the_documentation_has_the_table() {
    const BEGIN: &str = "<!-- table of keys: begin -->\n";
    const END: &str = "<!-- table of keys: end -->\n";
    let path = root().join("../docs/compose.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the page marks where the table begins");
    let (_, after) = rest.split_once(END).expect("the page marks where the table ends");
    let expected = format!("{before}{BEGIN}{}{END}{after}", markdown());
    if std::env::var_os("LIMPET_WRITE").is_some() {
        std::fs::write(&path, &expected).unwrap();
        return;
    }
    assert!(text == expected, "run this test with LIMPET_WRITE=1 to write the table anew");
}
