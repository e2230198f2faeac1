//! What an apply changes. Deciding code: two applications in, the difference out.

use limpet_protocol::application::Application;

use super::types::ApplyOutcome;

/// The difference from what is stored, at revision 0 until it is written.
pub(super) fn compare(old: Option<&Application>, new: &Application) -> ApplyOutcome {
    let mut outcome = nothing(new.name.as_str());
    for (name, service) in &new.services {
        let before = old.and_then(|old| old.services.get(name));
        let list = match before {
            None => &mut outcome.added,
            Some(before) if before == service => &mut outcome.unchanged,
            Some(_) => &mut outcome.changed,
        };
        list.push(name.to_string());
    }
    let gone = old.into_iter().flat_map(|old| old.services.keys());
    let gone = gone.filter(|name| !new.services.contains_key(*name));
    outcome.removed.extend(gone.map(ToString::to_string));
    outcome
}

/// The removal of all of it.
pub(super) fn removal(old: &Application) -> ApplyOutcome {
    let removed = old.services.keys().map(ToString::to_string).collect();
    ApplyOutcome { removed, ..nothing(old.name.as_str()) }
}

/// Whether nothing has to be written.
pub(super) fn is_unchanged(outcome: &ApplyOutcome) -> bool {
    outcome.added.is_empty() && outcome.changed.is_empty() && outcome.removed.is_empty()
}

fn nothing(application: &str) -> ApplyOutcome {
    ApplyOutcome {
        application: application.to_owned(),
        revision: 0,
        added: Vec::new(),
        changed: Vec::new(),
        unchanged: Vec::new(),
        removed: Vec::new(),
    }
}
