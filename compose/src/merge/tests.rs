//! The rules of merging, one row each: what is below, what is above, what comes out.

use serde_json::Value;

use super::*;
use crate::canonical;
use crate::diagnostic::Problems;
use crate::node::{Place, Source};
use crate::yaml;

fn document(text: &str) -> Node {
    let source = Source::new("t.yaml".to_owned(), format!("services: {{s: {{{text}}}}}\n"));
    let mut document = yaml::parse(&source).unwrap().remove(0);
    let mut problems = Problems::default();
    canonical::document(&mut document, &mut problems);
    assert!(problems.errors.is_empty(), "{text}: {:?}", problems.errors);
    document
}

fn over(below: &str, above: &str) -> Value {
    let source = Source::new(String::new(), String::new());
    let nothing = Node::empty_mapping(&Place { source, start: 0, end: 0 });
    let below = merge(nothing, document(below), Tags::Drop);
    merge(below, document(above), Tags::Drop).to_json()["services"]["s"].clone()
}

#[test]
fn rules() {
    for (below, above, expected) in [
        // Scalars are replaced, mappings merged, lists appended without what is there already.
        ("image: a, user: u", "image: b", "image: b, user: u"),
        ("environment: [A=1, B=2]", "environment: {B: 3, C: 4}", "environment: {A: 1, B: 3, C: 4}"),
        ("cap_add: [A, B]", "cap_add: [B, C]", "cap_add: [A, B, C]"),
        ("dns: a", "dns: [b]", "dns: [a, b]"),
        ("labels: {a: 1}", "labels: [b=2]", "labels: {a: 1, b: 2}"),
        (
            "deploy: {replicas: 1, labels: {a: 1}}",
            "deploy: {replicas: 2}",
            "deploy: {replicas: 2, labels: {a: 1}}",
        ),
        // Unique resources.
        ("ports: ['80:80']", "ports: ['80:80', '81:80']", "ports: ['80:80', '81:80']"),
        ("ports: ['80:80']", "ports: ['80:80/udp']", "ports: ['80:80', '80:80/udp']"),
        ("volumes: ['a:/x', 'b:/y']", "volumes: ['c:/x']", "volumes: ['c:/x', 'b:/y']"),
        ("devices: ['/dev/a:/dev/x']", "devices: ['/dev/b:/dev/x']", "devices: ['/dev/b:/dev/x']"),
        ("secrets: [a]", "secrets: [{source: b, target: a}]", "secrets: [{source: b, target: a}]"),
        (
            "configs: [a]",
            "configs: [{source: b, target: /a}]",
            "configs: [{source: b, target: /a}]",
        ),
        (
            "env_file: a",
            "env_file: [b, {path: a, required: false}]",
            "env_file: [{path: a, required: false}, b]",
        ),
        // Replaced as a whole.
        ("command: a b", "command: [c]", "command: [c]"),
        ("entrypoint: [a]", "entrypoint: []", "entrypoint: []"),
        (
            "healthcheck: {test: a, retries: 1}",
            "healthcheck: {test: [CMD, b]}",
            "healthcheck: {test: [CMD, b], retries: 1}",
        ),
        (
            "ulimits: {nofile: 1}",
            "ulimits: {nofile: {soft: 2, hard: 3}}",
            "ulimits: {nofile: {soft: 2, hard: 3}}",
        ),
        (
            "logging: {driver: a, options: {x: 1}}",
            "logging: {driver: b, options: {y: 1}}",
            "logging: {driver: b, options: {y: 1}}",
        ),
        (
            "logging: {driver: a, options: {x: 1}}",
            "logging: {options: {y: 1}}",
            "logging: {driver: a, options: {x: 1, y: 1}}",
        ),
        // Tags.
        ("ports: ['80:80'], user: a", "ports: !reset [], user: !reset null", ""),
        ("ports: ['80:80']", "ports: !override ['81:81']", "ports: ['81:81']"),
        ("environment: {A: 1, B: 2}", "environment: {A: !reset null}", "environment: {B: 2}"),
        ("environment: {A: 1}", "environment: !override {B: 2}", "environment: {B: 2}"),
        ("image: a", "ports: !reset null, tmpfs: !override [/a]", "image: a, tmpfs: [/a]"),
        ("tmpfs: !reset [/a]", "image: a", "image: a"),
    ] {
        let expected = document(expected).to_json()["services"]["s"].clone();
        assert_eq!(over(below, above), expected, "{below}  +  {above}");
    }
}
