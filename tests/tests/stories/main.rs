//! Golden stories: a small text language drives the deciding code of both halves (planner and
//! rollouts, and the agents' reconcile) through a scenario in virtual time, and what they decide is
//! held against what stands beside the story.
//!
//! In: `*.story`, one command a line ([`script`] has the language). Out: `*.out`, every decision with
//! its time. `LIMPET_BLESS=1` writes the outputs anew. No network, no containers, no clock: the same
//! story always ends the same.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod controller;
mod node;
mod script;

use std::path::{Path, PathBuf};

fn stories() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stories");
    let entries = std::fs::read_dir(&folder).expect("the folder of stories");
    let paths = entries.map(|entry| entry.expect("an entry of the folder").path());
    let mut found: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|it| it == "story")).collect();
    found.sort();
    assert!(!found.is_empty(), "there are no stories in {}", folder.display());
    found
}

#[test]
fn stories_end_as_they_did() {
    let bless = std::env::var_os("LIMPET_BLESS").is_some();
    let mut wrong = vec![];
    for path in stories() {
        let text = std::fs::read_to_string(&path).expect("a story");
        let told =
            script::tell(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let output = path.with_extension("out");
        if bless {
            std::fs::write(&output, &told).expect("write the output");
            continue;
        }
        let expected = std::fs::read_to_string(&output).unwrap_or_default();
        if told != expected {
            let at = told.lines().zip(expected.lines()).position(|(is, was)| is != was);
            let at = at.unwrap_or_else(|| told.lines().count().min(expected.lines().count()));
            let line = |text: &str| text.lines().nth(at).unwrap_or("(its end)").to_owned();
            wrong.push(format!(
                "{} line {}:\n  is  {}\n  was {}",
                output.display(),
                at + 1,
                line(&told),
                line(&expected)
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "stories end otherwise; if that is meant, run with LIMPET_BLESS=1 and read the changes:\n{}",
        wrong.join("\n")
    );
}
