//! No input makes the reader panic or run away: random bytes, random trees of known keys, and samples
//! with pieces cut, doubled and swapped.
#![cfg(test)]

use std::path::Path;
use std::sync::OnceLock;

use limpet_compose::{LoadOptions, MemoryFiles, keys, load};
use proptest::prelude::*;

fn schema() -> &'static jsonschema::Validator {
    static SCHEMA: OnceLock<jsonschema::Validator> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/compose-spec.schema.json");
        let text = std::fs::read_to_string(path).unwrap();
        jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap()
    })
}

/// Whatever the text is: it is refused with reasons, or what is printed of it keeps the schema and
/// reads back as the same.
fn take(text: &str) {
    let files = MemoryFiles::new().with("compose.yaml", text).with(".env", text);
    match load(&LoadOptions::default(), &files) {
        Ok(project) => {
            if let Err(errors) = project.to_application() {
                assert!(!errors.is_empty(), "a refusal says why");
            }
            let value = project.to_value();
            let fault = schema().iter_errors(&value).next();
            let fault = fault.map(|fault| format!("{}: {fault}", fault.instance_path()));
            assert!(fault.is_none(), "{fault:?}\n{text}");
            let printed = project.to_yaml();
            let files = MemoryFiles::new().with("compose.yaml", &printed);
            let again = load(&LoadOptions::default(), &files);
            let again = again.unwrap_or_else(|errors| panic!("{errors:#?}\n{text}\n{printed}"));
            assert_eq!(again.to_value(), value, "{text}\n{printed}");
        }
        Err(errors) => {
            assert!(!errors.is_empty(), "a refusal says why");
            for error in errors {
                assert!(!error.one_line().is_empty());
            }
        }
    }
}

fn samples() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let yaml = |path: &std::path::PathBuf| path.extension().is_some_and(|e| e == "yaml");
    paths.into_iter().filter(yaml).map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

fn key_names() -> Vec<String> {
    let mut names: Vec<String> = keys::all()
        .flat_map(|(path, _)| path.split('.').map(|part| part.trim_end_matches("[]").to_owned()))
        .filter(|name| name != "*" && !name.is_empty())
        .collect();
    names.sort();
    names.dedup();
    names
}

fn paths() -> Vec<String> {
    keys::all().map(|(path, _)| path.to_owned()).filter(|path| !path.is_empty()).collect()
}

/// A file that has a value at a path of the table.
fn file_with(path: &str, value: &str) -> String {
    let mut text = value.to_owned();
    for part in path.split('.').rev() {
        let (name, list) = match part.strip_suffix("[]") {
            Some(name) => (name, true),
            None => (part, false),
        };
        if list {
            text = format!("[{text}]");
        }
        let name = if name == "*" { "s" } else { name };
        text = format!("{{{name}: {text}}}");
    }
    format!("services: {{s: {{image: i}}}}\n---\n{text}\n")
}

/// YAML flow text whose keys are real.
fn tree() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        "[a-z0-9:/.=,-]{0,12}".prop_map(|text| format!("'{text}'")),
        "[0-9.]{1,6}",
        Just("true".to_owned()),
        Just("null".to_owned()),
        Just("!reset null".to_owned()),
        Just("'${A:-${B:?x}}'".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
    ];
    scalar.prop_recursive(4, 40, 6, |inner| {
        let entry = (prop::sample::select(key_names()), inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::btree_map(entry.0, entry.1, 0..6).prop_map(|map| {
                let entries: Vec<String> =
                    map.into_iter().map(|(key, value)| format!("{key}: {value}")).collect();
                format!("{{{}}}", entries.join(", "))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, rng_seed: proptest::test_runner::RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        take(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn random_yaml(text in "[a-z:\\-\\[\\]{}&*!<>|'\"#%$ \n\t]{0,200}") {
        take(&text);
    }

    #[test]
    fn random_services(service in tree(), rest in tree()) {
        take(&format!("services: {{s: {service}, t: {{image: i, deploy: {rest}}}}}"));
        take(&format!("include: {rest}\nservices: {{s: {{image: i, extends: {service}}}}}"));
    }

    #[test]
    fn any_key_with_any_value(path in prop::sample::select(paths()), value in tree()) {
        take(&file_with(&path, &value));
    }

    #[test]
    fn any_text_is_printed_as_it_is(text in prop_oneof![any::<String>(), "[a #:'\"\\n\\t|>-]{0,200}", "[a-z ]{80,400}"]) {
        let escaped = serde_json::Value::String(text.replace('$', "$$"));
        let text = format!("services: {{s: {{image: i, environment: {{A: {escaped}}}, command: [{escaped}]}}}}");
        take(&text);
    }

    #[test]
    fn mutated_samples(
        sample in prop::sample::select(samples()),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..4_u8, any::<u8>()), 1..6),
    ) {
        let mut bytes = sample.into_bytes();
        for (from, to, what, byte) in cuts {
            if bytes.is_empty() {
                break;
            }
            let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
            let (from, to) = (from.min(to), from.max(to).min(from.min(to) + 40));
            match what {
                0 => drop(bytes.drain(from..to)),
                1 => bytes[from] = byte,
                2 => {
                    let piece = bytes[from..to].to_vec();
                    bytes.splice(to..to, piece);
                }
                _ => bytes.insert(from, b"\t:-{}[]&*!$'\"#\n"[usize::from(byte) % 15]),
            }
        }
        take(&String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn long_chains_end() {
    let services: String = (0..3000)
        .map(|n| format!("  s{n}: {{image: i, extends: s{}, depends_on: [s{}]}}\n", n + 1, n + 1))
        .collect();
    take(&format!("services:\n{services}  s3000: {{image: i}}\n"));
    let waiting: String =
        (0..3000).map(|n| format!("  s{n}: {{image: i, depends_on: [s{}]}}\n", n + 1)).collect();
    take(&format!("services:\n{waiting}  s3000: {{image: i}}\n"));
    take(&format!("services: {{a: {{image: \"{}\"}}}}", "${A:-".repeat(5000)));
}
