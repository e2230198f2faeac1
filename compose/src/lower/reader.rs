//! Reads the keys of one service and says what is wrong with them.

use std::collections::BTreeMap;

use crate::Diagnostic;
use crate::diagnostic::Problems;
use crate::node::Node;

/// A service, or a part of it, with its path.
pub(super) struct Reader<'a, 'p> {
    pub(super) node: &'a Node,
    pub(super) path: String,
    pub(super) problems: &'p mut Problems,
}

impl<'a> Reader<'a, '_> {
    /// The node below a path of fixed keys, unless it is null.
    pub(super) fn get(&self, path: &str) -> Option<&'a Node> {
        let node = path.split('.').try_fold(self.node, |node, key| node.get(key))?;
        (!node.is_null()).then_some(node)
    }

    pub(super) fn text(&self, path: &str) -> Option<String> {
        self.get(path)?.scalar().map(str::to_owned)
    }

    pub(super) fn flag(&self, path: &str) -> bool {
        self.get(path).is_some_and(Node::is_true)
    }

    /// The items of a list.
    pub(super) fn items(&self, path: &str) -> &'a [Node] {
        self.get(path).and_then(Node::as_sequence).unwrap_or_default()
    }

    pub(super) fn texts(&self, path: &str) -> Vec<String> {
        self.items(path).iter().filter_map(Node::scalar).map(str::to_owned).collect()
    }

    /// A list that may be empty on purpose.
    pub(super) fn words(&self, path: &str) -> Option<Vec<String>> {
        self.get(path)?;
        Some(self.texts(path))
    }

    /// Names with texts; names without one are left out.
    pub(super) fn pairs(&self, path: &str) -> BTreeMap<String, String> {
        let mapping = self.get(path).and_then(Node::as_mapping).into_iter().flatten();
        mapping
            .filter_map(|(name, entry)| Some((name.clone(), entry.node.scalar()?.to_owned())))
            .collect()
    }

    /// Names with texts; a name without one has the empty text.
    pub(super) fn labels(&self, path: &str) -> BTreeMap<String, String> {
        let mapping = self.get(path).and_then(Node::as_mapping).into_iter().flatten();
        mapping
            .map(|(name, entry)| (name.clone(), entry.node.scalar().unwrap_or_default().to_owned()))
            .collect()
    }

    /// A whole number within bounds; an error says what was expected.
    pub(super) fn integer(&mut self, path: &str, least: i64, most: i64) -> Option<i64> {
        let node = self.get(path)?;
        let number = node.scalar().and_then(|text| text.parse::<i64>().ok());
        let fits = number.filter(|number| (least..=most).contains(number));
        if fits.is_none() {
            let message =
                format!("expected a whole number from {least} to {most}, found {}", node.kind());
            self.at(path).fail(node, message);
        }
        fits
    }

    /// The same node under a longer path, for messages.
    pub(super) fn at(&mut self, path: &str) -> Reader<'a, '_> {
        let path = crate::canonical::join(&self.path, path);
        Reader { node: self.node, path, problems: self.problems }
    }

    pub(super) fn fail(&mut self, node: &Node, message: impl Into<String>) {
        self.problems.push(Diagnostic::error(message).at(&node.place).key(&self.path));
    }

    pub(super) fn refuse(&mut self, node: &Node, message: impl Into<String>, advice: &str) {
        let diagnostic = Diagnostic::error(message).at(&node.place).key(&self.path);
        self.problems.push(diagnostic.advice(advice));
    }

    pub(super) fn warn(&mut self, node: &Node, message: impl Into<String>, advice: &str) {
        let diagnostic = Diagnostic::warning(message).at(&node.place).key(&self.path);
        self.problems.push(diagnostic.advice(advice));
    }

    /// One of two keys for the same thing: both may be there if they say the same.
    pub(super) fn either(&mut self, one: &str, other: &str) -> Option<(&'a Node, String)> {
        match (self.get(one), self.get(other)) {
            (Some(first), Some(second)) => {
                if first.scalar() != second.scalar() {
                    let message = format!(
                        "`{one}` says {} and `{other}` says {}",
                        first.kind(),
                        second.kind()
                    );
                    self.at(one).refuse(first, message, "keep one of them");
                }
                Some((second, other.to_owned()))
            }
            (Some(node), None) => Some((node, one.to_owned())),
            (None, Some(node)) => Some((node, other.to_owned())),
            (None, None) => None,
        }
    }
}
