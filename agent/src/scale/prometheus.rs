//! Prometheus' text format → one number.
//!
//! The format is that of "Exposition formats", section "Text-based format", of Prometheus' documentation:
//! a line a series, `name{label="value",...} number [timestamp]`; lines that begin with `#` are no series.

use std::collections::BTreeMap;

/// Longest answer that is read: thousands of series.
pub const MAX_BYTES: usize = 256 * 1024;
/// Thousandths.
const FINE: f64 = 1_000.0;

/// The sum of all series of a name that have these labels, in thousandths; none if there is none, or
/// what is there is no number. Less than nothing is nothing.
#[must_use]
pub fn value_of(text: &str, name: &str, labels: &BTreeMap<String, String>) -> Option<u64> {
    let mut sum: Option<f64> = None;
    for line in text.lines() {
        let Some(rest) = line.trim_start().strip_prefix(name) else { continue };
        let Some((found, rest)) = labels_of(rest) else { continue };
        let has = |(name, value): (&String, &String)| {
            found.iter().any(|(other, it)| other == name && it == value)
        };
        if !labels.iter().all(has) {
            continue;
        }
        let number: f64 = rest.split_ascii_whitespace().next()?.parse().ok()?;
        sum = Some(sum.unwrap_or(0.0) + number);
    }
    let thousandths = (sum? * FINE).max(0.0);
    if !thousandths.is_finite() {
        return None;
    }
    // `as` stops at the greatest number.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "finite, not below 0"
    )]
    Some(thousandths as u64)
}

/// The labels that follow a name, and what follows them; none if the name goes on.
fn labels_of(rest: &str) -> Option<(Vec<(&str, String)>, &str)> {
    if rest.starts_with([' ', '\t']) {
        return Some((Vec::new(), rest));
    }
    let mut rest = rest.strip_prefix('{')?.trim_start();
    let mut found = Vec::new();
    while !rest.starts_with('}') {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = quoted(after.trim_start())?;
        found.push((name.trim(), value));
        rest = after.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    Some((found, &rest[1..]))
}

/// A text in quotes, in which `\\`, `\"` and `\n` stand for one character; and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.strip_prefix('"')?.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            // One for the quote before, one for this.
            '"' => return Some((value, &text[at + 2..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the documentation of the format has it.
    const TEXT: &str = "# HELP http_requests_total The total number of HTTP requests.\n\
        # TYPE http_requests_total counter\n\
        http_requests_total{method=\"post\",code=\"200\"} 1027 1395066363000\n\
        http_requests_total{method=\"post\",code=\"400\"}    3 1395066363000\n\
        # Escaping in label values:\n\
        msdos_file_access_time_seconds{path=\"C:\\\\DIR\\\\FILE.TXT\",error=\"Cannot find file:\\n\\\"FILE.TXT\\\"\"} 1.458255915e9\n\
        metric_without_timestamp_and_labels 12.47\n\
        something_weird{problem=\"division by zero\"} +Inf -3982045\n\
        below -4\n\
        http_requests_total_of_others 5\n";

    #[test]
    fn series_are_found_and_added_up() {
        let labels = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let ask = |name, pairs: &[(&str, &str)]| value_of(TEXT, name, &labels(pairs));
        assert_eq!(ask("http_requests_total", &[]), Some(1_030_000));
        assert_eq!(ask("http_requests_total", &[("code", "400")]), Some(3_000));
        assert_eq!(ask("http_requests_total", &[("code", "500")]), None);
        assert_eq!(ask("metric_without_timestamp_and_labels", &[]), Some(12_470));
        assert_eq!(ask("something_weird", &[]), None);
        assert_eq!(ask("below", &[]), Some(0));
        assert_eq!(ask("http_requests", &[]), None);
        let error = "Cannot find file:\n\"FILE.TXT\"";
        let found = ask("msdos_file_access_time_seconds", &[("error", error)]);
        assert_eq!(found, Some(1_458_255_915_000));
    }

    proptest::proptest! {
        #[test]
        fn any_text_gets_an_answer(text in ".{0,200}", lines in proptest::collection::vec("m[{} \"=,\\\\a1]{0,30}", 0..8)) {
            let answers = [
                value_of(&text, "m", &BTreeMap::new()),
                value_of(&lines.join("\n"), "m", &BTreeMap::from([("a".into(), "1".into())])),
            ];
            proptest::prop_assert_eq!(answers.len(), 2);
        }
    }
}
