//! Variables in values: `$V ${V} ${V:-d} ${V-d} ${V:?e} ${V?e} ${V:+r} ${V+r} $$`, nested.
//!
//! Comes in: a tree and the variables. Goes out: the tree with every text interpolated. Keys are
//! left alone, as Compose does.

use std::collections::BTreeMap;

use crate::Diagnostic;
use crate::diagnostic::Problems;
use crate::limits::{MAX_INTERPOLATED_BYTES, MAX_INTERPOLATION_DEPTH, MAX_VALUE_BYTES};
use crate::node::{Node, Place, Value};

/// The variables by name.
pub(crate) type Variables = BTreeMap<String, String>;

/// Interpolates every text of a tree.
pub(crate) struct Interpolation<'a> {
    pub(crate) variables: &'a Variables,
    /// How many bytes may still come out.
    pub(crate) budget: &'a mut usize,
    pub(crate) problems: &'a mut Problems,
}

impl Interpolation<'_> {
    /// Interpolates a node and everything below it.
    pub(crate) fn tree(&mut self, node: &mut Node, path: &str) {
        match &mut node.value {
            Value::Text(text) if text.contains('$') => {
                let outcome = interpolate(text, self.variables);
                for name in &outcome.unset {
                    self.warn(name, &node.place, path);
                }
                match outcome.text {
                    Ok(new) => self.put(new, text, &node.place, path),
                    Err(error) => self.fail(error, &node.place, path),
                }
            }
            Value::Sequence(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.tree(item, &format!("{path}[{index}]"));
                }
            }
            Value::Mapping(mapping) => {
                for (key, entry) in mapping {
                    self.tree(&mut entry.node, &crate::canonical::join(path, key));
                }
            }
            Value::Text(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn put(&mut self, new: String, text: &mut String, place: &Place, path: &str) {
        match self.budget.checked_sub(new.len()) {
            Some(rest) => {
                *self.budget = rest;
                *text = new;
            }
            None => {
                text.clear();
                let message =
                    format!("the variables become more than {MAX_INTERPOLATED_BYTES} bytes");
                self.problems.push(Diagnostic::error(message).at(place).key(path));
            }
        }
    }

    fn warn(&mut self, name: &str, place: &Place, path: &str) {
        let bare = place.find(&format!("${name}"));
        let place =
            if bare.slice().starts_with('$') { bare } else { place.find(&format!("${{{name}")) };
        let message = format!("the variable {name} is not set; it becomes an empty text");
        let advice =
            format!("set {name} in the environment or in .env, or write ${{{name}:-default}}");
        self.problems.push(Diagnostic::warning(message).at(&place).key(path).advice(advice));
    }

    fn fail(&mut self, error: Error, place: &Place, path: &str) {
        let diagnostic = Diagnostic::error(error.message).at(&place.find(&error.near)).key(path);
        self.problems.push(match error.advice {
            Some(advice) => diagnostic.advice(advice),
            None => diagnostic,
        });
    }
}

/// What became of a text.
pub(crate) struct Outcome {
    pub(crate) text: Result<String, Error>,
    /// Variables that were asked for without a default and are not set.
    pub(crate) unset: Vec<String>,
}

/// Why a text cannot be interpolated.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Error {
    pub(crate) message: String,
    /// The piece of text that is wrong.
    pub(crate) near: String,
    pub(crate) advice: Option<String>,
}

/// Interpolates one text.
pub(crate) fn interpolate(text: &str, variables: &Variables) -> Outcome {
    let mut reader = Reader { text, at: 0, variables, unset: Vec::new() };
    let text = reader.until_end(false, 0);
    Outcome { text, unset: reader.unset }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    variables: &'a Variables,
    unset: Vec<String>,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Reads to the end of the text, or, within braces, to their end.
    fn until_end(&mut self, within_braces: bool, depth: usize) -> Result<String, Error> {
        let mut out = String::new();
        let start = self.at;
        if depth > MAX_INTERPOLATION_DEPTH {
            return Err(Error {
                message: format!("defaults nested more than {MAX_INTERPOLATION_DEPTH} deep"),
                near: "${".to_owned(),
                advice: None,
            });
        }
        while let Some(character) = self.rest().chars().next() {
            match character {
                '}' if within_braces => return Ok(out),
                '$' => out.push_str(&self.dollar(depth)?),
                other => {
                    self.at += other.len_utf8();
                    out.push(other);
                }
            }
            if out.len() > MAX_VALUE_BYTES {
                return Err(Error {
                    message: format!("becomes longer than {MAX_VALUE_BYTES} bytes"),
                    near: String::new(),
                    advice: None,
                });
            }
        }
        if within_braces {
            return Err(invalid(self.text.get(start..).unwrap_or_default(), "`}` is missing"));
        }
        Ok(out)
    }

    /// Reads what begins with a dollar.
    fn dollar(&mut self, depth: usize) -> Result<String, Error> {
        let start = self.rest();
        self.at += 1;
        match self.rest().chars().next() {
            Some('$') => {
                self.at += 1;
                Ok("$".to_owned())
            }
            Some('{') => {
                self.at += 1;
                self.braces(start, depth)
            }
            Some(character) if character.is_ascii_alphabetic() || character == '_' => {
                let name = self.name();
                Ok(self.value(name))
            }
            _ => Err(invalid(start, "`$` begins a variable")),
        }
    }

    fn name(&mut self) -> &'a str {
        let rest = self.rest();
        let legal = |(at, c): &(usize, char)| {
            c.is_ascii_alphabetic() || *c == '_' || (*at > 0 && c.is_ascii_digit())
        };
        let length = rest.char_indices().take_while(legal).count();
        self.at += length;
        &rest[..length]
    }

    fn value(&mut self, name: &str) -> String {
        match self.variables.get(name) {
            Some(value) => value.clone(),
            None => {
                if !self.unset.iter().any(|known| known == name) {
                    self.unset.push(name.to_owned());
                }
                String::new()
            }
        }
    }

    /// Reads `${NAME…}`; `whole` is the text from its dollar on.
    fn braces(&mut self, whole: &'a str, depth: usize) -> Result<String, Error> {
        let name = self.name();
        if name.is_empty() {
            return Err(invalid(whole, "a variable's name is missing"));
        }
        let operators = [":-", ":?", ":+", "-", "?", "+"];
        let rest = self.rest();
        if rest.starts_with('}') {
            self.at += 1;
            return Ok(self.value(name));
        }
        let Some(operator) = operators.into_iter().find(|one| rest.starts_with(one)) else {
            return Err(invalid(whole, "after the name comes `}` or one of :- - :? ? :+ +"));
        };
        self.at += operator.len();
        let known = self.unset.len();
        let operand = self.until_end(true, depth + 1)?;
        self.at += 1;
        let empty_counts = !operator.starts_with(':');
        let value = self.variables.get(name).filter(|value| empty_counts || !value.is_empty());
        let (text, operand_used) = match (operator.trim_start_matches(':'), value) {
            ("-", Some(value)) => (value.clone(), false),
            ("+", None) => (String::new(), false),
            ("-", None) | ("+", Some(_)) => (operand, true),
            (_, Some(value)) => (value.clone(), false),
            (_, None) => {
                let detail = if operand.is_empty() { "" } else { ": " };
                return Err(Error {
                    message: format!("the variable {name} is needed{detail}{operand}"),
                    near: format!("${{{name}"),
                    advice: Some(format!("set {name} in the environment or in .env")),
                });
            }
        };
        if !operand_used {
            self.unset.truncate(known);
        }
        Ok(text)
    }
}

fn invalid(near: &str, why: &str) -> Error {
    let shown: String = near.chars().take(32).collect();
    Error {
        message: format!("invalid variable at {shown:?}: {why}"),
        near: shown,
        advice: Some("write `$$` for a dollar sign that is no variable".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> Result<String, String> {
        let variables = [("V", "value"), ("E", ""), ("W", "w")];
        let variables = variables.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        interpolate(text, &variables).text.map_err(|error| error.message)
    }

    #[test]
    fn every_form() {
        for (text, expected) in [
            ("$V", "value"),
            ("${V}", "value"),
            ("a${V}b$W-c", "avaluebw-c"),
            ("$U", ""),
            ("${U:-d}", "d"),
            ("${E:-d}", "d"),
            ("${E-d}", ""),
            ("${U-d}", "d"),
            ("${V:-d}", "value"),
            ("${V:?e}", "value"),
            ("${E?e}", ""),
            ("${V:+r}", "r"),
            ("${E:+r}", ""),
            ("${E+r}", "r"),
            ("${U+r}", ""),
            ("${U:-${X:-${V}}}", "value"),
            ("${U:-a b}c", "a bc"),
            ("${U:?no ${V}}${V}", "!"),
            ("$$V $$", "$V $"),
            ("${U:-$$}", "$"),
            ("ü$V", "üvalue"),
        ] {
            let got = run(text);
            if expected == "!" {
                assert_eq!(got.unwrap_err(), "the variable U is needed: no value");
            } else {
                assert_eq!(got.as_deref(), Ok(expected), "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_variable() {
        for text in ["$", "$1", "${", "${V", "${}", "${V:x}", "${V!}", "a $ b", "${U:-${V}"] {
            assert!(run(text).unwrap_err().starts_with("invalid variable"), "{text}");
        }
        assert!(run("${E:?}").unwrap_err().ends_with("E is needed"));
        assert!(run(&"${U:-".repeat(1000)).unwrap_err().contains("deep"));
    }

    #[test]
    fn unset_variables_are_told_once() {
        let outcome = interpolate("$U ${U} ${X:-d} ${Y+$Z}", &Variables::new());
        assert_eq!(outcome.unset, ["U"]);
    }
}
