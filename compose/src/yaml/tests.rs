//! Tables of YAML forms, merge keys and bombs.

use serde_json::json;

use super::*;

fn read(text: &str) -> std::result::Result<serde_json::Value, String> {
    let source = Source::new("t.yaml".to_owned(), text.to_owned());
    parse(&source)
        .map(|documents| documents.iter().map(Node::to_json).collect())
        .map_err(|diagnostic| diagnostic.one_line())
}

#[test]
fn scalars_have_the_types_of_the_core_schema() {
    for (text, value) in [
        ("yes", json!("yes")),
        ("true", json!(true)),
        ("~", json!(null)),
        ("12", json!(12)),
        ("1.50", json!(1.5)),
        ("'12'", json!("12")),
        ("!!str 12", json!("12")),
        ("22:22", json!("22:22")),
        ("1.2.3", json!("1.2.3")),
        ("-", json!([null])),
        (".", json!(".")),
    ] {
        assert_eq!(read(text), Ok(json!([value])), "{text}");
    }
    assert!(read("!!int x").unwrap_err().contains("no int"));
    assert!(read("!other x").unwrap_err().contains("unknown tag !other"));
}

#[test]
fn merge_keys_give_way_to_what_is_there() {
    let text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc:\n  <<: [*a, *b]\n  x: 0\n";
    let value = read(text).unwrap();
    assert_eq!(value[0]["c"], json!({"x": 0, "y": 1, "z": 2}));
    assert!(read("a:\n  <<: 3\n").unwrap_err().starts_with("t.yaml:2:7: error: `<<` takes"));
    assert_eq!(read("'<<': 1").unwrap()[0], json!({"<<": 1}));
}

#[test]
fn errors_say_where() {
    assert!(read("a: 1\nb: 2\na: 3\n").unwrap_err().starts_with("t.yaml:3:1: error: `a` is there"));
    assert!(read("a: [1\nb: 2\n").unwrap_err().contains("not valid YAML"));
    assert!(read("a:\n\t- b\n").unwrap_err().contains("t.yaml:2:"));
    assert!(read("a: *nothing\n").unwrap_err().contains("t.yaml:1:4"));
    assert!(read("a: &a [*a]\n").unwrap_err().contains("within the value that it names"));
    assert!(read("[a]: b\n").unwrap_err().contains("expected a name as key"));
}

#[test]
fn bombs_are_refused() {
    let mut laughs = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for level in 1..10 {
        let item = format!("*a{}, ", level - 1).repeat(10);
        laughs.push_str(&format!("a{level}: &a{level} [{item}]\n"));
    }
    assert!(read(&laughs).unwrap_err().contains("larger than"));
    let mut deep = "b0: &b0 [x]\n".to_owned();
    for level in 1..100 {
        deep.push_str(&format!("b{level}: &b{level} [*b{}]\n", level - 1));
    }
    assert!(read(&deep).unwrap_err().contains("levels deep"));
    assert!(read(&"[".repeat(10_000)).is_err());
    assert!(read(&"- ".repeat(10_000)).is_err());
}
