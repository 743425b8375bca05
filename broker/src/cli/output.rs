//! What goes to stdout: tables for people, JSON or YAML for programs, from one and the same value.

use std::fmt::Write as _;
use std::io::{self, Write};

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::Value;

use super::exit::Failure;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Aligned columns.
    Text,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
}

/// The flag that chooses the format.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct OutputArgs {
    /// How to print the result.
    #[arg(long, global = true, value_enum, default_value = "text")]
    format: Format,
}

impl OutputArgs {
    /// Prints `value`; `text` makes the form for people.
    pub(super) fn print<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let rendered = match self.format {
            Format::Text => text(value),
            Format::Json => serde_json::to_string_pretty(value).map_err(io::Error::other)? + "\n",
            Format::Yaml => yaml(&serde_json::to_value(value).map_err(io::Error::other)?),
        };
        let mut stdout = io::stdout().lock();
        stdout.write_all(rendered.as_bytes())?;
        Ok(stdout.flush()?)
    }
}

impl OutputArgs {
    /// Prints one of many values at once, for what has no end or does not fit into memory: a line of JSON, or a YAML
    /// document, for each.
    pub(super) fn print_next<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let rendered = match self.format {
            Format::Text => text(value),
            Format::Json => serde_json::to_string(value).map_err(io::Error::other)? + "\n",
            Format::Yaml => {
                let value = serde_json::to_value(value).map_err(io::Error::other)?;
                format!("---\n{}", yaml(&value))
            }
        };
        let mut stdout = io::stdout().lock();
        stdout.write_all(rendered.as_bytes())?;
        Ok(stdout.flush()?)
    }
}

/// Text from records and functions, without what would control a terminal.
pub(super) fn printable(text: &str) -> String {
    let escape = |c: char| match c.is_control() && c != '\t' {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(escape).collect()
}

/// Tells a person on stderr what was done.
pub(super) fn note(text: &str) -> io::Result<()> {
    writeln!(io::stderr(), "{text}")
}

/// `1 record`, `2 records`.
pub(super) fn counted(count: u64, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}

/// Aligned columns under a header line. Numbers stand to the right.
#[derive(Debug)]
pub(super) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new<const N: usize>(header: [&'static str; N]) -> Table {
        Table {
            header: header.to_vec(),
            rows: Vec::new(),
        }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.header.len());
        self.rows.push(cells.to_vec());
    }

    /// The table as text, one line a row.
    pub(super) fn render(&self) -> String {
        const GAP: &str = "  ";
        let columns = 0..self.header.len();
        let widths: Vec<usize> = columns
            .clone()
            .map(|at| {
                let cells = self.rows.iter().map(|row| row[at].chars().count());
                cells.max().unwrap_or(0).max(self.header[at].len())
            })
            .collect();
        let numeric: Vec<bool> = columns
            .map(|at| {
                let mut cells = self.rows.iter().map(|row| row[at].as_str()).peekable();
                cells.peek().is_some() && cells.all(is_number)
            })
            .collect();
        let mut text = String::new();
        let header: Vec<String> = self
            .header
            .iter()
            .map(|title| (*title).to_owned())
            .collect();
        for row in std::iter::once(&header).chain(&self.rows) {
            let mut line = String::new();
            for (at, cell) in row.iter().enumerate() {
                let pad = " ".repeat(widths[at] - cell.chars().count());
                let (before, after) = if numeric[at] {
                    (&*pad, "")
                } else {
                    ("", &*pad)
                };
                let gap = if at == 0 { "" } else { GAP };
                let _ = write!(line, "{gap}{before}{cell}{after}");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

fn is_number(cell: &str) -> bool {
    cell == "-" || cell.parse::<f64>().is_ok()
}

/// `name  value` lines with the values aligned.
pub(super) fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    pairs.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{name:width$}  {value}");
        text
    })
}

/// Bytes for people: three significant digits and a decimal unit.
pub(super) fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match (unit, value) {
        (0, _) => 0,
        (_, value) if value < 9.995 => 2,
        (_, value) if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// A JSON value as YAML (1.2, block style).
fn yaml(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Array(items) if !items.is_empty() => yaml_items(&mut text, items, 0),
        Value::Object(fields) if !fields.is_empty() => yaml_fields(&mut text, fields, 0),
        other => {
            yaml_scalar(&mut text, other);
            text.push('\n');
        }
    }
    text
}

fn yaml_items(text: &mut String, items: &[Value], depth: usize) {
    for item in items {
        let _ = write!(text, "{:width$}- ", "", width = depth * 2);
        match item {
            Value::Object(fields) if !fields.is_empty() => {
                // The first field stands behind the dash, the others below it.
                let mut block = String::new();
                yaml_fields(&mut block, fields, depth + 1);
                text.push_str(block.trim_start());
            }
            Value::Array(items) if !items.is_empty() => {
                text.truncate(text.trim_end_matches(' ').len());
                text.push('\n');
                yaml_items(text, items, depth + 1);
            }
            other => {
                yaml_scalar(text, other);
                text.push('\n');
            }
        }
    }
}

fn yaml_fields(text: &mut String, fields: &serde_json::Map<String, Value>, depth: usize) {
    for (name, value) in fields {
        let _ = write!(text, "{:width$}", "", width = depth * 2);
        yaml_scalar(text, &Value::String(name.clone()));
        text.push(':');
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                text.push('\n');
                yaml_fields(text, fields, depth + 1);
            }
            Value::Array(items) if !items.is_empty() => {
                text.push('\n');
                yaml_items(text, items, depth + 1);
            }
            other => {
                text.push(' ');
                yaml_scalar(text, other);
                text.push('\n');
            }
        }
    }
}

/// A scalar, or an empty collection. A string is left plain only where nothing could read it as anything
/// else; JSON's quoting is YAML's double quoting.
fn yaml_scalar(text: &mut String, value: &Value) {
    const WORDS: [&str; 7] = ["null", "true", "false", "yes", "no", "on", "off"];
    match value {
        Value::String(string) => {
            let plain = string.starts_with(|first: char| first.is_ascii_alphabetic())
                && string
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c))
                && !WORDS.contains(&string.to_ascii_lowercase().as_str());
            match plain {
                true => text.push_str(string),
                false => text.push_str(&value.to_string()),
            }
        }
        other => text.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_line_up_and_numbers_stand_to_the_right() {
        let mut table = Table::new(["NAME", "PARTITIONS", "NOTE"]);
        table.row(["a".to_owned(), "1".to_owned(), String::new()]);
        table.row(["longer-name".to_owned(), "16".to_owned(), "x".to_owned()]);
        assert_eq!(
            table.render(),
            "NAME         PARTITIONS  NOTE\n\
             a                     1\n\
             longer-name          16  x\n"
        );
    }

    #[test]
    fn an_empty_table_is_its_header() {
        assert_eq!(Table::new(["NAME", "STATE"]).render(), "NAME  STATE\n");
    }

    #[test]
    fn yaml_is_readable_and_unambiguous() {
        let value = json!({
            "name": "flights", "empty": [], "version": "1.0", "no": "no", "text": "a: b\n",
            "partitions": [{"id": 0, "isr": [1, 2]}, {"id": 1, "isr": []}],
            "nested": {"deep": {"x": null}}, "lists": [[1], ["a"]],
        });
        assert_eq!(
            yaml(&value),
            "empty: []\n\
             lists:\n  -\n    - 1\n  -\n    - a\n\
             name: flights\n\
             nested:\n  deep:\n    x: null\n\
             \"no\": \"no\"\n\
             partitions:\n  - id: 0\n    isr:\n      - 1\n      - 2\n  - id: 1\n    isr: []\n\
             text: \"a: b\\n\"\n\
             version: \"1.0\"\n"
        );
    }

    #[test]
    fn what_controls_a_terminal_is_escaped() {
        assert_eq!(printable("é\ta\u{1b}[2J\n"), "é\ta\\u{1b}[2J\\n");
    }

    #[test]
    fn bytes_have_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (9_994, "9.99 kB"),
            (12_345, "12.3 kB"),
            (999_499, "999 kB"),
            (999_500, "1.00 MB"),
            (123_456_789_012, "123 GB"),
        ] {
            assert_eq!(human_bytes(bytes), text, "{bytes}");
        }
    }
}
