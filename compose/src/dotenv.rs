//! Files of variables: `.env` and `env_file`.
//!
//! One `KEY=VALUE` a line; `export` before it, `#` comments, and values bare, in single quotes
//! (as they are) or in double quotes (with escapes); quoted values may span lines. Bare and
//! double-quoted values are interpolated, also with the variables of the lines before; those of
//! the surroundings win. A `KEY` alone takes its value from the surroundings. The format `raw`
//! takes everything after `=` as it is.

use std::sync::Arc;

use crate::Diagnostic;
use crate::interpolate::{Variables, interpolate};
use crate::node::{Place, Source};

/// Reads the variables of a file.
pub(crate) fn parse(
    source: &Arc<Source>,
    surroundings: &Variables,
    raw: bool,
) -> Result<Variables, Diagnostic> {
    let text = source.text();
    let mut scope = surroundings.clone();
    let mut found = Variables::new();
    let mut at = 0;
    while at < text.len() {
        let line_end = text[at..].find('\n').map_or(text.len(), |length| at + length);
        let place = Place { source: source.clone(), start: at, end: line_end };
        let fail = |message: String| {
            Diagnostic::error(message).at(&place).advice("write one KEY=VALUE a line")
        };
        let line = &text[at..line_end];
        at = line_end + 1;
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let body = line.trim_start();
        let body = body.strip_prefix("export ").map_or(body, str::trim_start);
        let split = if raw { body.find('=') } else { body.find(['=', ':']) };
        let key = body[..split.unwrap_or(body.len())].trim();
        if key.is_empty() || key.contains(char::is_whitespace) {
            return Err(fail(format!("expected KEY=VALUE, found {trimmed:?}")));
        }
        let Some(split) = split else {
            if let Some(value) = surroundings.get(key) {
                found.insert(key.to_owned(), value.clone());
            }
            continue;
        };
        let value_at = line_end - (body.len() - split - 1);
        let value = if raw {
            text[value_at..line_end].trim_end_matches('\r').to_owned()
        } else {
            let (value, length) = value(&text[value_at..], &scope)
                .map_err(|message| fail(format!("{key}: {message}")))?;
            let end = value_at + length;
            at = text[end..].find('\n').map_or(text.len(), |length| end + length + 1);
            value
        };
        scope.entry(key.to_owned()).or_insert_with(|| value.clone());
        found.insert(key.to_owned(), value);
    }
    Ok(found)
}

/// One value and how many bytes it takes.
fn value(text: &str, scope: &Variables) -> Result<(String, usize), String> {
    let blank = text.len() - text.trim_start_matches([' ', '\t']).len();
    let rest = &text[blank..];
    let expand = |text: &str| interpolate(text, scope).text.map_err(|error| error.message);
    if let Some(quoted) = rest.strip_prefix('\'') {
        let end = quoted.find('\'').ok_or("the closing ' is missing")?;
        return Ok((quoted[..end].to_owned(), blank + end + 2));
    }
    if let Some(quoted) = rest.strip_prefix('"') {
        let (plain, length) = double_quoted(quoted)?;
        return Ok((expand(&plain)?, blank + length + 2));
    }
    let line = &rest[..rest.find('\n').unwrap_or(rest.len())];
    let comment = if line.starts_with('#') { Some(0) } else { line.find(" #") };
    let bare = line[..comment.unwrap_or(line.len())].trim_end();
    Ok((expand(bare)?, blank + line.len()))
}

/// The text up to the closing quote, its escapes resolved except for `\$`, which becomes `$$`.
fn double_quoted(text: &str) -> Result<(String, usize), &'static str> {
    let mut out = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((out, at)),
            '\\' => match characters.next().map(|(_, escaped)| escaped) {
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                Some('t') => out.push('\t'),
                Some('$') => out.push_str("$$"),
                Some(escaped @ ('"' | '\\' | '\'')) => out.push(escaped),
                Some(other) => out.extend(['\\', other]),
                None => break,
            },
            other => out.push(other),
        }
    }
    Err("the closing \" is missing")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, raw: bool) -> Result<Vec<(String, String)>, String> {
        let source = Source::new(".env".to_owned(), text.to_owned());
        let surroundings = [("OUT".to_owned(), "side".to_owned())].into();
        parse(&source, &surroundings, raw)
            .map(|found| found.into_iter().collect())
            .map_err(|diagnostic| diagnostic.one_line())
    }

    #[test]
    fn every_form() {
        for (text, expected) in [
            ("A=1", "1"),
            ("export A = 1 ", "1"),
            ("A: 1", "1"),
            ("A=x # note", "x"),
            ("A=x#y", "x#y"),
            ("A=", ""),
            ("A='$OUT #'", "$OUT #"),
            ("A=\"l1\nl2\" # note\n", "l1\nl2"),
            ("A=\"a\\nb\\\"\\$x ${OUT}\"", "a\nb\"$x side"),
            ("A=${OUT}-${NO:-d}", "side-d"),
            ("# c\n\nA=1\r\n", "1"),
            ("OUT=in\nA=$OUT", "side"),
        ] {
            let found = read(text, false).unwrap();
            assert_eq!(found[0], ("A".to_owned(), expected.to_owned()), "{text:?}");
        }
        assert_eq!(read("A=1\nB=${A}2", false).unwrap()[1].1, "12");
        assert_eq!(read("OUT\nNO\n", false).unwrap(), [("OUT".to_owned(), "side".to_owned())]);
        assert_eq!(read("A='$OUT' # x", true).unwrap()[0].1, "'$OUT' # x");
    }

    #[test]
    fn what_is_no_line() {
        assert!(read("A=1\nwhat is this", false).unwrap_err().starts_with(".env:2:1: error"));
        assert!(read("=1", false).is_err());
        assert!(read("A='x", false).unwrap_err().contains("closing '"));
    }

    #[test]
    fn doubling_ends() {
        let mut text = "A=xxxxxxxxxxxxxxxx\n".to_owned();
        for _ in 0..40 {
            text.push_str("A2=$A$A\n");
        }
        let chain: String = (0..40).map(|i| format!("K{}=$K{i}$K{i}\n", i + 1)).collect();
        assert!(read(&text, false).is_ok());
        assert!(read(&format!("K0=x\n{chain}"), false).unwrap_err().contains("longer than"));
    }
}
