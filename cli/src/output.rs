//! How lists are shown: a table for people, JSON and YAML for programs.
//!
//! In come the API's items and, for each, the cells of its row; out comes text on standard output.
//! Colours and the terminal's width count only on a terminal; `NO_COLOR` is respected.

use std::io::{self, IsTerminal as _, Write as _};

use clap::{Args, ValueEnum};
use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use serde::Serialize;

/// How a list is shown.
#[derive(Debug, Clone, Default, Args)]
pub struct ListArgs {
    /// How to show it: `wide` has more columns, `json` and `yaml` have every field
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
    /// Leave out the line with the names of the columns
    #[arg(long)]
    pub no_headers: bool,
}

/// The forms of a list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// More columns.
    Wide,
    /// The items as the API gives them.
    Json,
    /// The same as YAML.
    Yaml,
}

/// What a cell says about its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Nothing of note.
    Plain,
    /// As it should be.
    Good,
    /// On its way.
    Waiting,
    /// Not as it should be.
    Bad,
}

/// One field of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// What it says.
    pub text: String,
    /// How it is meant.
    pub tone: Tone,
}

impl<T: ToString> From<T> for Field {
    fn from(value: T) -> Self {
        Self { text: value.to_string(), tone: Tone::Plain }
    }
}

/// A column: its title, whether only `wide` has it, and what it says about an item.
pub struct Column<T> {
    title: &'static str,
    wide: bool,
    field: fn(&T, u64) -> Field,
}

/// A column that is always shown; the function is given the item and the time in milliseconds.
pub const fn column<T>(title: &'static str, field: fn(&T, u64) -> Field) -> Column<T> {
    Column { title, wide: false, field }
}

/// A column that only `wide` shows.
pub const fn wide<T>(title: &'static str, field: fn(&T, u64) -> Field) -> Column<T> {
    Column { title, wide: true, field }
}

/// Shows a list as asked.
///
/// # Errors
/// If standard output cannot be written.
pub fn list<T: Serialize>(args: &ListArgs, columns: &[Column<T>], items: &[T]) -> io::Result<()> {
    let text = match args.output {
        Format::Json | Format::Yaml => data(args.output, &items)?,
        Format::Table | Format::Wide => {
            let look = Look { colours: colours(), terminal: is_terminal() };
            table(args, columns, items, &look)
        }
    };
    print(&text)
}

/// Shows one value as JSON or, for every other format, as YAML.
///
/// # Errors
/// If standard output cannot be written.
pub fn object<T: Serialize>(format: Format, value: &T) -> io::Result<()> {
    print(&data(format, value)?)
}

fn data<T: Serialize>(format: Format, value: &T) -> io::Result<String> {
    if format == Format::Json {
        let text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
        return Ok(text + "\n");
    }
    serde_saphyr::to_string(value).map_err(io::Error::other)
}

/// Writes to standard output.
///
/// # Errors
/// If it cannot be written; [`io::ErrorKind::BrokenPipe`] if the reader is gone.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Whether standard output is a terminal.
#[must_use]
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether standard output shows colours.
#[must_use]
pub fn colours() -> bool {
    is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

struct Look {
    colours: bool,
    terminal: bool,
}

fn table<T>(args: &ListArgs, columns: &[Column<T>], items: &[T], look: &Look) -> String {
    let shown = |column: &&Column<T>| args.output == Format::Wide || !column.wide;
    let columns: Vec<&Column<T>> = columns.iter().filter(shown).collect();
    let now_ms = now_ms();
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if look.terminal {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    } else {
        table.force_no_tty().set_content_arrangement(ContentArrangement::Disabled);
    }
    if !args.no_headers {
        table.set_header(columns.iter().map(|column| column.title));
    }
    for item in items {
        table.add_row(columns.iter().map(|column| cell((column.field)(item, now_ms), look)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    let text: String = table.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
    if items.is_empty() && args.no_headers { String::new() } else { text }
}

fn cell(field: Field, look: &Look) -> Cell {
    let text = if field.text.is_empty() { "-".to_owned() } else { field.text };
    let cell = Cell::new(text);
    match field.tone {
        _ if !look.colours => cell,
        Tone::Plain => cell,
        Tone::Good => cell.fg(Color::Green),
        Tone::Waiting => cell.fg(Color::Yellow),
        Tone::Bad => cell.fg(Color::Red),
    }
}

/// The time, for ages.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "ages are shown at the rim, by this machine's clock")]
pub fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// How long ago, in at most two units, the way kubectl shows ages: `45s`, `3m20s`, `5h`, `2d3h`.
#[must_use]
pub fn age(since_ms: u64, now_ms: u64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    const YEAR: u64 = 365 * DAY;
    if since_ms == 0 {
        return "-".into();
    }
    let seconds = now_ms.saturating_sub(since_ms) / 1000;
    let two = |unit: u64, name: char, part: u64, part_name: char| {
        let (whole, rest) = (seconds / unit, seconds % unit / part);
        if rest == 0 { format!("{whole}{name}") } else { format!("{whole}{name}{rest}{part_name}") }
    };
    match seconds {
        0..=119 => format!("{seconds}s"),
        s if s < 10 * MINUTE => two(MINUTE, 'm', 1, 's'),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => two(HOUR, 'h', MINUTE, 'm'),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => two(DAY, 'd', HOUR, 'h'),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => two(YEAR, 'y', DAY, 'd'),
        s => format!("{}y", s / YEAR),
    }
}

/// Bytes as people read them, in powers of 1024.
#[must_use]
pub fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_at_most_two_units() {
        let cases = [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (200, "3m20s"),
            (3600, "60m"),
            (4 * 3600 + 120, "4h2m"),
            (9 * 3600 + 59, "9h"),
            (50 * 3600, "2d2h"),
            (10 * 86400, "10d"),
            (800 * 86400, "2y70d"),
        ];
        for (seconds, text) in cases {
            assert_eq!(age(1_000, 1_000 + seconds * 1_000), text, "{seconds} s");
        }
        assert_eq!(age(0, 5), "-", "never");
        assert_eq!(age(9_000, 5_000), "0s", "a clock ahead of ours");
    }

    #[derive(Serialize)]
    struct Thing {
        name: &'static str,
        size: u32,
    }

    const THINGS: [Thing; 2] =
        [Thing { name: "a", size: 1 }, Thing { name: "long name", size: 22 }];

    fn columns() -> [Column<Thing>; 2] {
        [column("NAME", |t, _| t.name.into()), wide("SIZE", |t, _| t.size.into())]
    }

    fn shown(output: Format, no_headers: bool) -> String {
        let look = Look { colours: false, terminal: false };
        table(&ListArgs { output, no_headers }, &columns(), &THINGS, &look)
    }

    #[test]
    fn a_table_is_aligned_and_has_no_trailing_blanks() {
        assert_eq!(shown(Format::Table, false), "NAME\na\nlong name\n");
        assert_eq!(shown(Format::Wide, false), "NAME        SIZE\na           1\nlong name   22\n");
        assert_eq!(shown(Format::Wide, true), "a           1\nlong name   22\n");
    }

    #[test]
    fn programs_get_every_field() {
        assert_eq!(data(Format::Yaml, &&THINGS[..1]).unwrap().trim_end(), "- name: a\n  size: 1");
        let value: serde_json::Value =
            serde_json::from_str(&data(Format::Json, &&THINGS[..]).unwrap()).unwrap();
        assert_eq!(value[1]["size"], 22);
    }
}
