//! What `limpet up` says when it is up: where things are, and what to try next.

use std::path::Path;

use super::layout::Layout;
use crate::connection::DEFAULT_DATA;

/// What there is to say.
#[derive(Debug)]
pub struct Facts<'a> {
    /// Address of the API.
    pub api: &'a str,
    /// Address of the broker.
    pub mqtt: &'a str,
    /// The folders.
    pub layout: &'a Layout,
    /// The node.
    pub node: &'a str,
    /// How a person calls this program.
    pub command: &'a str,
}

/// The text, without the demo's part.
#[must_use]
pub fn text(facts: &Facts<'_>) -> String {
    let Facts { api, mqtt, layout, node, command } = facts;
    format!(
        "Limpet {} is up. Ctrl-C stops it and its containers.\n\n  \
         API     {api}\n  broker  {mqtt}\n  node    {node}\n  data    {}\n\n",
        env!("CARGO_PKG_VERSION"),
        layout.data.display(),
    ) + &next(layout, command)
}

/// What to try in another terminal.
fn next(layout: &Layout, command: &str) -> String {
    let mut call = String::from("sudo ");
    if layout.data != Path::new(DEFAULT_DATA) {
        call += &format!("LIMPET_DATA={} ", layout.data.display());
    }
    call += command;
    format!(
        "Try in another terminal:\n  \
         {call} ps\n  {call} events --follow\n  {call} apply -f compose.yaml\n\n"
    )
}

/// How a person calls this program: by its name if a shell finds it, else by its path.
#[must_use]
pub fn command(program: &Path, here: &Path, search: &[std::path::PathBuf]) -> String {
    let name = program.file_name().unwrap_or_default();
    if program.parent().is_some_and(|folder| search.iter().any(|found| found == folder)) {
        return name.to_string_lossy().into_owned();
    }
    program.strip_prefix(here).unwrap_or(program).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_called_as_a_person_can() {
        let (program, here) = (Path::new("/a/target/debug/limpet"), Path::new("/a"));
        assert_eq!(command(program, here, &[]), "target/debug/limpet");
        assert_eq!(command(program, Path::new("/b"), &[]), "/a/target/debug/limpet");
        assert_eq!(command(program, here, &["/a/target/debug".into()]), "limpet");
    }

    #[test]
    fn another_data_folder_is_part_of_the_call() {
        let facts = |layout: &Layout| {
            let (api, mqtt) = ("http://127.0.0.1:7600", "mqtt://127.0.0.1:1883");
            text(&Facts { api, mqtt, layout, node: "pi", command: "limpet" })
        };
        assert!(facts(&Layout::of(Path::new(DEFAULT_DATA))).contains("  sudo limpet ps\n"));
        let other = facts(&Layout::of(Path::new("/d")));
        assert!(other.contains("  sudo LIMPET_DATA=/d limpet ps\n"), "{other}");
    }
}
