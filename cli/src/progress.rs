//! Progress on standard error, for work that takes longer than a second.
//!
//! Shown only on a terminal: in a pipe or a log it would be noise.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(120);

/// A bar over bytes; without a known total, a count of them.
#[must_use]
pub fn over_bytes(what: String, total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (
            ProgressBar::new(total),
            "{msg} {bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}",
        ),
        None => {
            (ProgressBar::new_spinner(), "{spinner} {msg} {binary_bytes} {binary_bytes_per_sec}")
        }
    };
    styled(bar, template).with_message(what)
}

/// A bar over things of which so many have to come.
#[must_use]
pub fn over_instances() -> ProgressBar {
    let bar = styled(ProgressBar::new(0), "{spinner} {pos}/{len} {bar:20} {msg}");
    bar.enable_steady_tick(TICK);
    bar
}

/// A spinner with a sentence.
#[must_use]
pub fn spinner(what: String) -> ProgressBar {
    let bar = styled(ProgressBar::new_spinner(), "{spinner} {msg}").with_message(what);
    bar.enable_steady_tick(TICK);
    bar
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style.progress_chars("━╸ ")),
        Err(_) => bar,
    }
}
