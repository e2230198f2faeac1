//! What clippy cannot say about the source: purity of deciding code, heads of files, names.
//!
//! Each message says what to do instead.

use std::fs;
use std::path::{Path, PathBuf};

/// The most lines of a source file, of tests too: who looks for one has to find it.
const MAX_LINES: usize = 500;

struct Source {
    path: PathBuf,
    name: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && name != ".git" {
            walk(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let mut paths = vec![];
    walk(&root(), &mut paths);
    assert!(paths.len() > 20, "the sources were not found");
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        Source { path, name, text }
    };
    paths.into_iter().map(read).collect()
}

/// Everything before the file's tests: production code.
fn production(source: &Source) -> &str {
    source.text.split("\n#[cfg(test)]").next().unwrap_or_default()
}

fn is_test(source: &Source) -> bool {
    let part = |name: &str| source.path.components().any(|c| c.as_os_str() == name);
    let stem = source.path.file_stem().unwrap().to_string_lossy();
    source.name.starts_with("tests/")
        || part("benches")
        || part("examples")
        || source.name.contains("/tests/")
        || stem == "tests"
        || stem.ends_with("_tests")
}

fn report(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn every_file_opens_with_its_contract() {
    let problems: Vec<_> = sources()
        .iter()
        .filter(|s| !s.text.starts_with("//!"))
        .map(|s| {
            format!("{}: open with `//!`: what it is for, what comes in, what goes out", s.name)
        })
        .collect();
    report(&problems);
}

#[test]
fn files_are_one_idea() {
    let problems: Vec<_> = sources()
        .iter()
        .map(|s| (s, s.text.lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(s, lines)| {
            format!(
                "{}: {lines} lines; split it into files of one idea each (at most {MAX_LINES})",
                s.name
            )
        })
        .collect();
    report(&problems);
}

#[test]
fn deciding_code_decides_only() {
    const FOLDERS: [&str; 20] = [
        "protocol/src/",
        "controller/src/explain/",
        "controller/src/network/",
        "controller/src/plan/",
        "controller/src/preview/",
        "controller/src/rollout/",
        "agent/src/reconcile/",
        "agent/src/health/",
        "agent/src/scale/",
        "controller/src/observe/liveness",
        "network/src/picture",
        "network/src/addresses/",
        "network/src/names/",
        "network/src/rules/",
        "agent/src/doctor/findings",
        "agent/src/board/mbr",
        "images/src/board/modules",
        "images/src/board/partitions",
        "images/src/board/recipe",
        "images/src/board/settings",
    ];
    const FOREIGN: [(&str, &str); 11] = [
        ("tokio", "return a value and let the loop wait"),
        ("rumqttc", "return a message and let the loop publish it"),
        ("libcontainer", "return an action and let the runtime do it"),
        ("redb", "return a transaction and let the store write it"),
        ("std::fs", "take what was read as a value"),
        ("std::net", "take what was heard as a value"),
        ("std::process", "return an action"),
        ("Instant::now", "take the time as a value"),
        ("SystemTime", "take the time as a value"),
        ("rand::", "take a seed as a value"),
        ("async fn", "return a value and let the loop wait"),
    ];
    let mut problems = vec![];
    for source in
        sources().iter().filter(|s| !is_test(s) && FOLDERS.iter().any(|f| s.name.starts_with(f)))
    {
        let code = production(source)
            .lines()
            .enumerate()
            .filter(|(_, l)| !l.trim_start().starts_with("//"));
        for (number, line) in code {
            for (word, instead) in FOREIGN.iter().filter(|(word, _)| line.contains(word)) {
                problems.push(format!(
                    "{}:{}: `{word}` in deciding code; {instead}",
                    source.name,
                    number + 1
                ));
            }
        }
    }
    report(&problems);
}

#[test]
fn topics_are_spelled_in_one_place() {
    let problems: Vec<_> = sources()
        .iter()
        .filter(|s| {
            !is_test(s)
                && s.name != "protocol/src/topic.rs"
                && s.name != "tests/tests/repository/tidy.rs"
        })
        .flat_map(|s| {
            let code = production(s)
                .lines()
                .enumerate()
                .filter(|(_, l)| !l.trim_start().starts_with("//"));
            code.filter(|(_, l)| l.contains("\"limpet/v1"))
                .map(|(n, _)| {
                    format!("{}:{}: spell topics with protocol::topic::Topic", s.name, n + 1)
                })
                .collect::<Vec<_>>()
        })
        // The prefix of what is signed is not a topic; it is spelled once, beside the envelope.
        .filter(|problem| !problem.starts_with("protocol/src/message.rs"))
        .collect();
    report(&problems);
}

#[test]
fn nothing_is_called_by_what_it_is_not() {
    const NAMES: [&str; 6] = ["utils", "util", "helpers", "helper", "common", "misc"];
    let problems: Vec<_> = sources()
        .iter()
        .filter(|s| {
            s.path.strip_prefix(root()).unwrap().iter().any(|part| {
                let part = part.to_string_lossy();
                NAMES.contains(&part.trim_end_matches(".rs"))
            })
        })
        .map(|s| format!("{}: name it for what it does", s.name))
        .collect();
    report(&problems);
}

#[test]
fn the_design_names_the_folders_that_exist() {
    let page = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let layout = page.split("## Layout").nth(1).expect("docs/architecture.md has a section Layout");
    let mut problems = vec![];
    for member in ["controller", "agent"] {
        for entry in fs::read_dir(root().join(member).join("src")).unwrap() {
            let entry = entry.unwrap();
            let folder = format!("{}/", entry.file_name().to_string_lossy());
            if entry.path().is_dir() && !layout.contains(&folder) {
                problems.push(format!("{member}/src/{folder} is not in docs/architecture.md, section Layout: add it there"));
            }
        }
    }
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        let folder = format!("{name}/");
        if root().join(&name).join("Cargo.toml").is_file() && !layout.contains(&folder) {
            problems.push(format!(
                "{folder} is not in docs/architecture.md, section Layout: add it there"
            ));
        }
    }
    report(&problems);
}
