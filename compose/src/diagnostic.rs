//! What is said about a file: where, which key, what is wrong with it, what was expected and what
//! to do. [`Diagnostic`] is for people (miette shows it with its line of the file), [`Problems`]
//! collects them.

use std::fmt;

use miette::{LabeledSpan, SourceCode};

use crate::limits::MAX_DIAGNOSTICS;
use crate::node::Place;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The file is taken, but something in it has no effect or may surprise.
    Warning,
    /// The file is not taken.
    Error,
}

/// One thing that is wrong with a Compose file.
#[derive(Debug, Clone)]
pub struct Diagnostic {
    severity: Severity,
    message: String,
    key_path: Option<String>,
    advice: Option<String>,
    place: Option<Place>,
}

impl Diagnostic {
    pub(crate) fn error(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            key_path: None,
            advice: None,
            place: None,
        }
    }

    pub(crate) fn warning(message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(message) }
    }

    pub(crate) fn at(mut self, place: &Place) -> Self {
        self.place = Some(place.clone());
        self
    }

    pub(crate) fn key(mut self, path: impl Into<String>) -> Self {
        self.key_path = Some(path.into());
        self
    }

    pub(crate) fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// How bad it is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// What is wrong and what was expected.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it, when there is more to say than the message does.
    #[must_use]
    pub fn advice_text(&self) -> Option<&str> {
        self.advice.as_deref()
    }

    /// The key, as a path: `services.web.ports[0]`.
    #[must_use]
    pub fn key_path(&self) -> Option<&str> {
        self.key_path.as_deref()
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        self.place.as_ref().map(|place| place.source.name.as_str())
    }

    /// Line and column in the file, both counted from 1.
    #[must_use]
    pub fn line_and_column(&self) -> Option<(usize, usize)> {
        self.place.as_ref().map(Place::line_and_column)
    }

    /// All of it on one line: `compose.yaml:3:5: error: services.web.imge: ...`, for logs and scripts.
    #[must_use]
    pub fn one_line(&self) -> String {
        let mut line = String::new();
        if let (Some(file), Some((row, column))) = (self.file(), self.line_and_column()) {
            line.push_str(&format!("{file}:{row}:{column}: "));
        }
        line.push_str(match self.severity {
            Severity::Error => "error: ",
            Severity::Warning => "warning: ",
        });
        line.push_str(&self.to_string());
        if let Some(advice) = &self.advice {
            line.push_str("; ");
            line.push_str(advice);
        }
        line
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key_path {
            Some(path) if !path.is_empty() => write!(f, "{path}: {}", self.message),
            _ => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Diagnostic {}

impl miette::Diagnostic for Diagnostic {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.severity {
            Severity::Warning => miette::Severity::Warning,
            Severity::Error => miette::Severity::Error,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.advice.as_ref().map(|advice| Box::new(advice) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.place.as_ref().map(|place| &place.source.named as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let place = self.place.as_ref()?;
        // Only the first line is marked: a whole mapping underlined hides what is meant.
        let length = place.slice().lines().next().unwrap_or_default().trim_end().len();
        let span = LabeledSpan::new(Some("here".to_owned()), place.start, length);
        Some(Box::new(std::iter::once(span)))
    }
}

/// Diagnostics as they are found, at most [`MAX_DIAGNOSTICS`] of each severity.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    pub(crate) errors: Vec<Diagnostic>,
    pub(crate) warnings: Vec<Diagnostic>,
}

impl Problems {
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        let list = match diagnostic.severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        if list.len() > MAX_DIAGNOSTICS || list.iter().any(|known| known.same_as(&diagnostic)) {
            return;
        }
        let diagnostic = if list.len() < MAX_DIAGNOSTICS {
            diagnostic
        } else {
            let message = format!("more than {MAX_DIAGNOSTICS} of these; the rest is not shown");
            Diagnostic { severity: diagnostic.severity, ..Diagnostic::error(message) }
        };
        list.push(diagnostic);
    }
}

impl Problems {
    /// Errors in the order of the files, then the warnings.
    pub(crate) fn into_list(mut self) -> Vec<Diagnostic> {
        in_order(&mut self.errors);
        in_order(&mut self.warnings);
        self.errors.append(&mut self.warnings);
        self.errors
    }
}

/// Sorts by place, file by file.
pub(crate) fn in_order(list: &mut [Diagnostic]) {
    list.sort_by_cached_key(|diagnostic| {
        let start = diagnostic.place.as_ref().map(|place| place.start);
        (start.is_none(), diagnostic.file().map(str::to_owned), start)
    });
}

impl Diagnostic {
    fn same_as(&self, other: &Self) -> bool {
        let position = |one: &Self| one.place.as_ref().map(|place| (place.start, place.end));
        self.message == other.message
            && self.key_path == other.key_path
            && self.file() == other.file()
            && position(self) == position(other)
    }
}
