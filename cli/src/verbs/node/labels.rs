//! Labels as the command line writes them: `KEY=VALUE` gives, `KEY-` takes away.

use std::collections::BTreeMap;

use limpet_protocol::label;

use crate::exit::Usage;

/// The change that the words ask for: a value, or none to take the label away.
///
/// # Errors
/// [`Usage`] names the word and what is wrong with it.
pub(super) fn parse(words: &[String]) -> Result<BTreeMap<String, Option<String>>, Usage> {
    let mut labels = BTreeMap::new();
    for word in words {
        let wrong = |why: String| Usage(format!("label {word:?}: {why}"));
        let (key, value) = match (word.split_once('='), word.strip_suffix('-')) {
            (Some((key, value)), _) => (key, Some(value)),
            (None, Some(key)) => (key, None),
            (None, None) => {
                return Err(wrong("write KEY=VALUE to give it, KEY- to take it away".into()));
            }
        };
        label::check(key, value.unwrap_or_default()).map_err(|error| wrong(error.to_string()))?;
        if labels.insert(key.to_owned(), value.map(str::to_owned)).is_some() {
            return Err(wrong(format!("{key} is there twice")));
        }
    }
    Ok(labels)
}

/// `a=1,b=2`.
pub(super) fn in_words(labels: &BTreeMap<String, String>) -> String {
    let each: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    each.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_give_and_take() {
        let words =
            |words: &[&str]| parse(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        let labels = words(&["site=north", "rack-", "note=a=b-", "empty="]).unwrap();
        let given = |key: &str| labels.get(key).cloned();
        assert_eq!(given("site"), Some(Some("north".into())));
        assert_eq!(given("rack"), Some(None));
        assert_eq!(given("note"), Some(Some("a=b-".into())));
        assert_eq!(given("empty"), Some(Some(String::new())));
        for (wrong, why) in [
            (&["site"][..], "write KEY=VALUE"),
            (&["=x"], "the key is empty"),
            (&["-"], "the key is empty"),
            (&["a b=x"], "position 1"),
            (&["a=1", "a-"], "a is there twice"),
        ] {
            let error = words(wrong).unwrap_err().to_string();
            assert!(error.contains(why), "{wrong:?}: {error}");
        }
    }
}
