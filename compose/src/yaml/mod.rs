//! YAML text → trees with places.
//!
//! Works on the events of a YAML 1.2 parser: aliases are expanded within a budget, merge keys
//! (`<<`) are applied, scalars get the types of the core schema, and the tags `!reset` and
//! `!override` are kept for [`crate::merge`]. One tree a document.

use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use crate::Diagnostic;
use crate::limits::{MAX_DEPTH, MAX_NODES};
use crate::node::{Entry, Mapping, Node, Place, Source, Tag, Value};

type Result<T> = std::result::Result<T, Diagnostic>;

/// The documents of a text; an empty text has none.
pub(crate) fn parse(source: &Arc<Source>) -> Result<Vec<Node>> {
    let text = source.text();
    let mut composer = Composer {
        source,
        events: Parser::new_from_str_with_options(
            text,
            granit_parser::options! { emit_comments: false },
        ),
        anchors: HashMap::new(),
        budget: MAX_NODES,
    };
    let mut documents = Vec::new();
    while let Some((event, span)) = composer.next()? {
        match event {
            Event::StreamEnd => break,
            Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
            event => documents.push(composer.node(event, &span, 0)?.node),
        }
    }
    Ok(documents)
}

/// What was composed, and what an alias to it costs.
#[derive(Clone)]
struct Composed {
    node: Node,
    weight: usize,
    height: usize,
}

struct Composer<'a> {
    source: &'a Arc<Source>,
    events: Parser<'a, granit_parser::StrInput<'a>>,
    anchors: HashMap<usize, Composed>,
    budget: usize,
}

impl<'a> Composer<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>> {
        match self.events.next_event() {
            None => Ok(None),
            Some(Ok(next)) => Ok(Some(next)),
            Some(Err(error)) => Err(self.scan_error(&error)),
        }
    }

    /// The next event within a collection; the end of the text there is an error of its own.
    fn expect(&mut self) -> Result<(Event<'a>, Span)> {
        let end = self.place_at(self.source.text().len(), self.source.text().len());
        self.next()?.ok_or_else(|| Diagnostic::error("the text ends within a value").at(&end))
    }

    fn scan_error(&self, error: &ScanError) -> Diagnostic {
        let marker = error.marker();
        let at =
            marker.byte_offset().unwrap_or_else(|| byte_of(self.source.text(), marker.index()));
        let advice = if error.info().contains("tab") {
            "indent with spaces, never with tabs"
        } else {
            "check the indentation and the quotes here and on the line before"
        };
        Diagnostic::error(format!("not valid YAML: {}", error.info()))
            .at(&self.place_at(at, at + 1))
            .advice(advice)
    }

    fn place_at(&self, start: usize, end: usize) -> Place {
        let length = self.source.text().len();
        let (start, end) = (start.min(length), end.min(length));
        Place { source: self.source.clone(), start, end: end.max(start) }
    }

    fn place(&self, span: &Span) -> Place {
        let range = span.byte_range().unwrap_or(0..0);
        self.place_at(range.start, range.end)
    }

    fn spend(&mut self, weight: usize, place: &Place) -> Result<()> {
        match self.budget.checked_sub(weight) {
            Some(rest) => self.budget = rest,
            None => {
                let message = format!("the file becomes larger than {MAX_NODES} values here");
                return Err(Diagnostic::error(message)
                    .at(place)
                    .advice("use fewer aliases of aliases, or split the file"));
            }
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'a>, span: &Span, depth: usize) -> Result<Composed> {
        let place = self.place(span);
        if depth > MAX_DEPTH {
            let message = format!("nested more than {MAX_DEPTH} levels deep");
            return Err(Diagnostic::error(message).at(&place));
        }
        let tag = tag_name(&event);
        let (anchor, mut composed) = match event {
            Event::Alias(id) => return self.alias(id, &place, depth),
            Event::Scalar(text, style, anchor, _) => {
                let weight = 1 + text.len() / 64;
                self.spend(weight, &place)?;
                let value = scalar(text.into_owned(), style, tag.as_deref(), &place)?;
                (anchor, Composed { node: Node::new(value, place.clone()), weight, height: 0 })
            }
            Event::SequenceStart(_, anchor, _) => (anchor, self.sequence(&place, depth)?),
            Event::MappingStart(_, anchor, _) => (anchor, self.mapping(&place, depth)?),
            _ => return Err(Diagnostic::error("expected a value here").at(&place)),
        };
        composed.node.tag = merge_tag(tag.as_deref(), &composed.node)?;
        if anchor != 0 {
            self.anchors.insert(anchor, composed.clone());
        }
        Ok(composed)
    }

    fn alias(&mut self, id: usize, place: &Place, depth: usize) -> Result<Composed> {
        let Some(target) = self.anchors.get(&id).cloned() else {
            let message = format!("{} stands within the value that it names", place.slice());
            return Err(Diagnostic::error(message).at(place));
        };
        self.spend(target.weight, place)?;
        if depth + target.height > MAX_DEPTH {
            let message = format!("nested more than {MAX_DEPTH} levels deep");
            return Err(Diagnostic::error(message).at(place));
        }
        Ok(target)
    }

    fn sequence(&mut self, place: &Place, depth: usize) -> Result<Composed> {
        self.spend(1, place)?;
        let (mut items, mut weight, mut height) = (Vec::new(), 1, 0);
        loop {
            let (event, span) = self.expect()?;
            if matches!(event, Event::SequenceEnd) {
                let place = self.place_at(place.start, self.place(&span).end);
                let node = Node::new(Value::Sequence(items), place);
                return Ok(Composed { node, weight, height });
            }
            let item = self.node(event, &span, depth + 1)?;
            weight += item.weight;
            height = height.max(item.height + 1);
            items.push(item.node);
        }
    }

    fn mapping(&mut self, place: &Place, depth: usize) -> Result<Composed> {
        self.spend(1, place)?;
        let (mut mapping, mut merges) = (Mapping::new(), Vec::new());
        let (mut weight, mut height) = (1, 0);
        loop {
            let (event, span) = self.expect()?;
            if matches!(event, Event::MappingEnd) {
                apply_merge_keys(&mut mapping, merges)?;
                let place = self.place_at(place.start, self.place(&span).end);
                let node = Node::new(Value::Mapping(mapping), place);
                return Ok(Composed { node, weight, height });
            }
            let plain = matches!(event, Event::Scalar(_, ScalarStyle::Plain, ..));
            let key = self.node(event, &span, depth + 1)?.node;
            let Some(name) = key.scalar().map(str::to_owned) else {
                let message = format!("expected a name as key, found {}", key.kind());
                return Err(Diagnostic::error(message).at(&key.place));
            };
            let (event, span) = self.expect()?;
            let value = self.node(event, &span, depth + 1)?;
            weight += value.weight + 1;
            height = height.max(value.height + 1);
            if name == "<<" && plain {
                merges.push(value.node);
                continue;
            }
            if let Some(first) = mapping.get(&name) {
                let (line, _) = first.key.line_and_column();
                let message = format!("`{name}` is there twice; the first is on line {line}");
                return Err(Diagnostic::error(message)
                    .at(&key.place)
                    .advice("keep one of them, or put both contents under one key"));
            }
            mapping.insert(name, Entry { key: key.place, node: value.node });
        }
    }
}

/// Merge keys: what stands in the mapping itself wins, then the first of the merged mappings.
fn apply_merge_keys(mapping: &mut Mapping, merges: Vec<Node>) -> Result<()> {
    for merge in merges {
        let sources = match merge.value {
            Value::Sequence(items) => items,
            value => vec![Node { value, ..merge }],
        };
        for source in sources {
            let Value::Mapping(entries) = source.value else {
                let message = format!("`<<` takes mappings, found {}", source.kind());
                return Err(Diagnostic::error(message)
                    .at(&source.place)
                    .advice("write `<<: *name`, where `&name` stands before a mapping"));
            };
            for (key, entry) in entries {
                mapping.entry(key).or_insert(entry);
            }
        }
    }
    Ok(())
}

fn tag_name(event: &Event) -> Option<String> {
    event.tag().map(|tag| tag.core_suffix().map_or_else(|| tag.to_string(), str::to_owned))
}

fn merge_tag(tag: Option<&str>, node: &Node) -> Result<Tag> {
    match tag {
        None | Some("str" | "int" | "float" | "bool" | "null" | "map" | "seq" | "!") => {
            Ok(Tag::None)
        }
        Some("!reset") => Ok(Tag::Reset),
        Some("!override") => Ok(Tag::Override),
        Some(other) => Err(Diagnostic::error(format!("unknown tag {other}"))
            .at(&node.place)
            .advice("Compose knows the tags `!reset` and `!override`")),
    }
}

fn scalar(text: String, style: ScalarStyle, tag: Option<&str>, place: &Place) -> Result<Value> {
    let plain = style == ScalarStyle::Plain;
    let typed = if plain { core_schema(&text) } else { Value::Text(text.clone()) };
    let wanted = match tag {
        Some("str" | "!") => return Ok(Value::Text(text)),
        Some(wanted @ ("int" | "float" | "bool" | "null")) => wanted,
        _ => return Ok(typed),
    };
    let value = core_schema(&text);
    let fits = matches!(
        (&value, wanted),
        (Value::Number(_), "int" | "float") | (Value::Bool(_), "bool") | (Value::Null, "null")
    );
    if fits {
        return Ok(value);
    }
    Err(Diagnostic::error(format!("{text:?} is no {wanted}, which its tag says it is")).at(place))
}

/// The types of plain scalars (YAML 1.2.2, 10.3.2). `yes`, `no`, `on` and `off` are texts.
pub(crate) fn core_schema(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ if is_number(text) => Value::Number(text.to_owned()),
        _ => Value::Text(text.to_owned()),
    }
}

fn is_number(text: &str) -> bool {
    let digits =
        |text: &str, legal: fn(&u8) -> bool| !text.is_empty() && text.as_bytes().iter().all(legal);
    if let Some(rest) = text.strip_prefix("0x") {
        return digits(rest, u8::is_ascii_hexdigit);
    }
    if let Some(rest) = text.strip_prefix("0o") {
        return digits(rest, |byte| (b'0'..=b'7').contains(byte));
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let exponent_fits = exponent.is_none_or(|exponent| {
        digits(exponent.strip_prefix(['-', '+']).unwrap_or(exponent), u8::is_ascii_digit)
    });
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    exponent_fits && all(whole) && all(fraction) && !(whole.is_empty() && fraction.is_empty())
}

fn byte_of(text: &str, character: usize) -> usize {
    text.char_indices().nth(character).map_or(text.len(), |(at, _)| at)
}

#[cfg(test)]
mod tests;
