//! The tree that everything works on: YAML values, each with its place in a source text.

use std::fmt;
use std::sync::Arc;

use indexmap::IndexMap;
use miette::NamedSource;

/// A file's name and text.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) named: NamedSource<String>,
}

impl Source {
    pub(crate) fn new(name: String, text: String) -> Arc<Self> {
        Arc::new(Self { named: NamedSource::new(&name, text), name })
    }

    pub(crate) fn text(&self) -> &str {
        self.named.inner()
    }
}

/// A range of bytes of a source.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) source: Arc<Source>,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Place {
    /// Line and column, both counted from 1; columns count characters.
    pub(crate) fn line_and_column(&self) -> (usize, usize) {
        let before = self.source.text().get(..self.start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
        (line, before[line_start..].chars().count() + 1)
    }

    /// The source text of this place.
    pub(crate) fn slice(&self) -> &str {
        self.source.text().get(self.start..self.end).unwrap_or_default()
    }

    /// The narrower place of a piece of text within this one, or this one.
    pub(crate) fn find(&self, piece: &str) -> Self {
        match self.slice().find(piece) {
            Some(at) if !piece.is_empty() => {
                let start = self.start + at;
                Self { source: self.source.clone(), start, end: start + piece.len() }
            }
            _ => self.clone(),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.line_and_column();
        write!(f, "{}:{line}:{column}", self.source.name)
    }
}

/// What a merge shall do with a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tag {
    /// Merge it.
    None,
    /// `!reset`: take away what was there.
    Reset,
    /// `!override`: put it in place of what was there.
    Override,
}

/// A value with its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) place: Place,
    pub(crate) tag: Tag,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// As it was written, so that `1.10` stays what it is where a text is asked for.
    Number(String),
    Text(String),
    Sequence(Vec<Node>),
    Mapping(Mapping),
}

/// Keys in the order of the file.
pub(crate) type Mapping = IndexMap<String, Entry>;

/// One key of a mapping.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: Place,
    pub(crate) node: Node,
}

impl Node {
    pub(crate) fn new(value: Value, place: Place) -> Self {
        Self { value, place, tag: Tag::None }
    }

    pub(crate) fn text(text: impl Into<String>, place: &Place) -> Self {
        Self::new(Value::Text(text.into()), place.clone())
    }

    pub(crate) fn empty_mapping(place: &Place) -> Self {
        Self::new(Value::Mapping(Mapping::new()), place.clone())
    }

    /// A mapping of new keys that all stand at one place: what short syntax becomes.
    pub(crate) fn mapping_of(place: &Place, entries: Vec<(&str, Value)>) -> Self {
        let entries = entries.into_iter().map(|(key, value)| {
            let node = Self::new(value, place.clone());
            (key.to_owned(), Entry { key: place.clone(), node })
        });
        Self::new(Value::Mapping(entries.collect()), place.clone())
    }

    pub(crate) fn as_mapping(&self) -> Option<&Mapping> {
        match &self.value {
            Value::Mapping(mapping) => Some(mapping),
            _ => None,
        }
    }

    pub(crate) fn as_mapping_mut(&mut self) -> Option<&mut Mapping> {
        match &mut self.value {
            Value::Mapping(mapping) => Some(mapping),
            _ => None,
        }
    }

    pub(crate) fn as_sequence(&self) -> Option<&[Self]> {
        match &self.value {
            Value::Sequence(items) => Some(items),
            _ => None,
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.as_mapping()?.get(key).map(|entry| &entry.node)
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        self.as_mapping_mut()?.get_mut(key).map(|entry| &mut entry.node)
    }

    /// The text of a scalar as it would be in a variable; nothing for null and collections.
    pub(crate) fn scalar(&self) -> Option<&str> {
        match &self.value {
            Value::Bool(true) => Some("true"),
            Value::Bool(false) => Some("false"),
            Value::Number(text) | Value::Text(text) => Some(text),
            Value::Null | Value::Sequence(_) | Value::Mapping(_) => None,
        }
    }

    /// Whether the scalar says true; canonical trees have only real booleans.
    pub(crate) fn is_true(&self) -> bool {
        matches!(self.value, Value::Bool(true))
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// Puts a value under a key; a new key stands at this node's place.
    pub(crate) fn set(&mut self, key: &str, value: Value) {
        let place = self.place.clone();
        if let Some(mapping) = self.as_mapping_mut() {
            let node = Self::new(value, place.clone());
            mapping.insert(key.to_owned(), Entry { key: place, node });
        }
    }

    /// What a person calls this kind of value.
    pub(crate) fn kind(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(value) => format!("`{value}`"),
            Value::Number(text) => format!("the number {text}"),
            Value::Text(text) => format!("{text:?}"),
            Value::Sequence(_) => "a list".to_owned(),
            Value::Mapping(_) => "a mapping".to_owned(),
        }
    }

    /// As JSON; numbers that JSON cannot hold become texts.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Number(text) => serde_json::from_str::<serde_json::Number>(text)
                .map_or_else(|_| text.clone().into(), Into::into),
            Value::Text(text) => text.clone().into(),
            Value::Sequence(items) => items.iter().map(Self::to_json).collect(),
            Value::Mapping(mapping) => serde_json::Value::Object(
                mapping.iter().map(|(key, entry)| (key.clone(), entry.node.to_json())).collect(),
            ),
        }
    }

    /// Whether both say the same, wherever they stand.
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.to_json() == other.to_json()
    }
}
