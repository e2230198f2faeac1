//! `limpet.toml` of an image, changed as a person would change it: line by line, with its comments. Pure.

/// A setting that cannot be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SettingError {
    /// The file has no such part, or it would not be read as meant.
    #[error("limpet.toml has no place for {0}: change it by hand")]
    NoPlace(String),
}

/// The text with `name = value` in a table. A line that has the name, also one that is not in force,
/// is replaced; else the setting comes first in its table. Values are in TOML.
///
/// # Errors
/// If the result does not say what was asked.
pub fn set(text: &str, table: &str, name: &str, value: &str) -> Result<String, SettingError> {
    let no_place = || SettingError::NoPlace(format!("{table}.{name}"));
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let header = format!("[{table}]");
    let begin = lines.iter().position(|line| line.trim() == header).ok_or_else(no_place)? + 1;
    let length = lines[begin..].iter().position(|line| line.trim_start().starts_with('['));
    let end = length.map_or(lines.len(), |length| begin + length);
    let setting = format!("{name} = {value}");
    let named = |line: &String, in_force: bool| {
        let line = line.trim_start();
        let line = if in_force { line } else { line.strip_prefix('#').unwrap_or("").trim_start() };
        line.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    let found = [true, false]
        .into_iter()
        .find_map(|in_force| lines[begin..end].iter().position(|line| named(line, in_force)));
    match found {
        Some(at) => lines[begin + at] = setting,
        None => lines.insert(begin, setting),
    }
    let changed = lines.join("\n") + "\n";
    if is_set(&changed, table, name, value) { Ok(changed) } else { Err(no_place()) }
}

fn is_set(text: &str, table: &str, name: &str, value: &str) -> bool {
    let Ok(whole) = text.parse::<toml::Table>() else { return false };
    let Ok(meant) = format!("it = {value}").parse::<toml::Table>() else { return false };
    let mut at = Some(&whole);
    for part in table.split('.') {
        at = at.and_then(|it| it.get(part)).and_then(toml::Value::as_table);
    }
    let key = name.trim_matches('"');
    at.and_then(|it| it.get(key)).is_some_and(|found| Some(found) == meant.get("it"))
}

/// What a person wrote as a value of TOML: as it is if it is one, else a text, which then needs no quotes.
#[must_use]
pub fn value(written: &str) -> String {
    let is_value = format!("it = {written}").parse::<toml::Table>().is_ok_and(|it| it.len() == 1);
    if is_value { written.to_owned() } else { quoted(written) }
}

/// A text as a value of TOML.
#[must_use]
pub fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "[agent]\n# Where.\n# controller = \"a\"\nname = \"x\"\n\n[agent.labels]\n# site = \"north\"\n";

    #[test]
    fn a_setting_takes_the_place_of_its_comment() {
        let changed = set(FILE, "agent", "controller", "\"mqtt://b\"").unwrap();
        assert_eq!(changed, FILE.replace("# controller = \"a\"", "controller = \"mqtt://b\""));
        let again = set(&changed, "agent", "controller", "\"c\"").unwrap();
        assert_eq!(again, FILE.replace("# controller = \"a\"", "controller = \"c\""));
        let label = set(FILE, "agent.labels", "rack", "\"7\"").unwrap();
        assert_eq!(label, FILE.replace("labels]\n", "labels]\nrack = \"7\"\n"));
    }

    #[test]
    fn a_value_needs_no_quotes() {
        for is_one in ["true", "[]", "\"a b\"", "7", "[\"a\", \"b\"]"] {
            assert_eq!(value(is_one), is_one);
        }
        assert_eq!(value("10.0.0.7/24"), "\"10.0.0.7/24\"");
        assert_eq!(value("1\nother = 2"), quoted("1\nother = 2"));
    }

    #[test]
    fn what_would_not_be_read_as_meant_is_refused() {
        let no_place = |name: &str| Err(SettingError::NoPlace(name.to_owned()));
        assert_eq!(set(FILE, "wifi", "ssid", "\"a\""), no_place("wifi.ssid"));
        assert_eq!(
            set("[agent]\nx = '''\n[wifi]\n'''\n", "wifi", "ssid", "\"a\""),
            no_place("wifi.ssid")
        );
        assert_eq!(set(FILE, "agent", "controller", "a b"), no_place("agent.controller"));
        assert_eq!(quoted("a\"b"), "'a\"b'");
    }
}
