//! Every sample application is taken, or refused with the key, the line and the reason: the
//! outcome of all of them is `data/outcomes.txt`. `LIMPET_WRITE=1` writes it anew.
#![cfg(test)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use limpet_compose::{Diagnostic, LoadOptions, MemoryFiles, load};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

fn samples() -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = std::fs::read_dir(data())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect();
    found.sort();
    found
}

fn options(file: &str) -> LoadOptions {
    let environment = [("PLEX_MEDIA_PATH".to_owned(), "/media".to_owned())].into();
    LoadOptions { files: vec![file.into()], environment, ..LoadOptions::default() }
}

fn lines(out: &mut String, diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        writeln!(out, "  {}", diagnostic.one_line()).unwrap();
    }
}

#[test]
fn every_sample_is_taken_or_refused_with_a_reason() {
    let mut out = String::new();
    for (name, text) in samples() {
        let files = MemoryFiles::new().with(&name, &text);
        let options = LoadOptions { files: vec![name.clone().into()], ..LoadOptions::default() };
        let project = match load(&options, &files) {
            Ok(project) => project,
            Err(errors) => {
                writeln!(out, "{name}: not read").unwrap();
                lines(&mut out, &errors);
                continue;
            }
        };
        match project.to_application() {
            Ok(application) => {
                let names: Vec<&str> =
                    application.services.keys().map(|name| name.as_str()).collect();
                writeln!(out, "{name}: taken, services {}", names.join(", ")).unwrap();
            }
            Err(errors) => {
                writeln!(out, "{name}: refused").unwrap();
                lines(&mut out, &errors);
            }
        }
        lines(&mut out, &project.warnings);
    }
    let path = data().join("outcomes.txt");
    if std::env::var_os("LIMPET_WRITE").is_some() {
        std::fs::write(&path, &out).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(out, expected, "run with LIMPET_WRITE=1 to write {}", path.display());
}

#[test]
fn what_is_printed_keeps_the_schema_and_reads_back() {
    let schema = std::fs::read_to_string(data().join("compose-spec.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap();
    for (name, text) in samples() {
        let files = MemoryFiles::new().with(&name, &text);
        let project =
            load(&options(&name), &files).unwrap_or_else(|errors| panic!("{name}: {errors:?}"));
        let value = project.to_value();
        let faults: Vec<String> = schema
            .iter_errors(&value)
            .map(|fault| format!("{}: {fault}", fault.instance_path()))
            .collect();
        assert!(faults.is_empty(), "{name}: {faults:#?}");
        let printed = project.to_yaml();
        let files = MemoryFiles::new().with("again.yaml", &printed);
        let again = load(&options("again.yaml"), &files)
            .unwrap_or_else(|errors| panic!("{name}: {errors:?}"));
        assert_eq!(again.to_value(), value, "{name}:\n{printed}");
    }
}
