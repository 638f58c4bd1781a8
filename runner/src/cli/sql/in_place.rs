//! The result of a query whose rows are taken back and given anew, drawn over itself as it changes.
//!
//! Invariant: what is shown is the sum of the changes so far; beyond [`MOST`] different rows nothing is drawn any more, and
//! the changes themselves are printed.

use crate::cli::exit::Result;
use crate::cli::output::Output;
use arrow::array::{AsArray, RecordBatch};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Different rows.
const MOST: usize = 10_000;
/// A person sees no more.
const DRAW_EVERY: Duration = Duration::from_millis(100);
/// Where the terminal does not say.
const SIZE: (u16, u16) = (80, 24);

pub struct InPlace {
    /// How often each row is there.
    rows: BTreeMap<Vec<String>, i64>,
    header: Vec<String>,
    /// Lines that stand on the screen.
    drawn: usize,
    drawn_at: Option<Instant>,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    Shown,
    /// There are too many rows to show.
    TooMany,
}

impl InPlace {
    /// Without `op`, its first column.
    pub fn new(header: Vec<String>) -> Self {
        Self { rows: BTreeMap::new(), header, drawn: 0, drawn_at: None }
    }

    pub fn take(&mut self, batch: &RecordBatch) -> std::result::Result<Taken, ArrowError> {
        let options = FormatOptions::default().with_null("null");
        let columns = batch.columns()[1..].iter();
        let columns = columns.map(|column| ArrayFormatter::try_new(column.as_ref(), &options));
        let columns = columns.collect::<std::result::Result<Vec<_>, _>>()?;
        for (at, op) in batch.column(0).as_string::<i32>().iter().enumerate() {
            let row: Vec<String> = columns.iter().map(|column| column.value(at).to_string()).collect();
            let weight = if op == Some("-") { -1 } else { 1 };
            // The halves of an update may come in either order.
            let count = self.rows.entry(row).or_default();
            *count += weight;
        }
        self.rows.retain(|_, count| *count != 0);
        Ok(if self.rows.len() > MOST { Taken::TooMany } else { Taken::Shown })
    }

    /// Draws, unless that was just done; `last`: in any case.
    pub fn draw(&mut self, output: Output, last: bool) -> Result<()> {
        if !last && self.drawn_at.is_some_and(|at| at.elapsed() < DRAW_EVERY) {
            return Ok(());
        }
        self.drawn_at = Some(Instant::now());
        let (width, height) = ratatui::crossterm::terminal::size().unwrap_or(SIZE);
        let text = self.text(usize::from(width), usize::from(height));
        let up = if self.drawn > 0 { format!("\x1b[{}A", self.drawn) } else { String::new() };
        self.drawn = text.lines().count();
        output.raw(format!("{up}\r\x1b[J{text}").as_bytes())
    }

    /// Lines that fit the screen, the prompt's below them.
    fn text(&self, width: usize, height: usize) -> String {
        let there: Vec<&Vec<String>> =
            self.rows.iter().filter(|(_, count)| **count > 0).flat_map(|(row, n)| (0..*n).map(move |_| row)).collect();
        let room = height.saturating_sub(3).max(1);
        let shown = &there[..there.len().min(room)];
        let width_of = |at: usize| {
            let cells = shown.iter().map(|row| row[at].chars().count());
            cells.chain([self.header[at].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.header.len()).map(width_of).collect();
        let line = |cells: &[String]| {
            let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            let text = cells.collect::<Vec<_>>().join("  ");
            // A line that wraps is two, and would be drawn over as one.
            let text: String = text.trim_end().chars().filter(|of| !of.is_control()).take(width).collect();
            text + "\n"
        };
        let mut text = line(&self.header);
        shown.iter().for_each(|row| text.push_str(&line(row)));
        match there.len() - shown.len() {
            0 => {}
            more => text.push_str(&format!("… and {more} more rows\n")),
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use std::sync::Arc;

    fn batch(rows: &[(&str, &str, i64)]) -> RecordBatch {
        let text = |of: fn(&(&str, &str, i64)) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(rows.iter().map(of)))
        };
        let (ops, users) = (text(|row| row.0.to_string()), text(|row| row.1.to_string()));
        let n: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.2)));
        RecordBatch::try_from_iter([("op", ops), ("user", users), ("n", n)]).expect("a batch")
    }

    fn shown(rows: &[(&str, &str, i64)]) -> String {
        let mut result = InPlace::new(vec!["user".to_string(), "n".to_string()]);
        assert_eq!(result.take(&batch(rows)).expect("taken"), Taken::Shown);
        result.text(80, 6)
    }

    #[test]
    fn what_is_taken_back_is_gone_whichever_half_comes_first() {
        assert_eq!(shown(&[("+", "ada", 1), ("-", "ada", 1), ("+", "ada", 2)]), "user  n\nada   2\n");
        assert_eq!(shown(&[("-", "ada", 1), ("+", "ada", 2), ("+", "ada", 1)]), "user  n\nada   2\n");
        assert_eq!(shown(&[("+", "ada", 1), ("+", "ada", 1)]), "user  n\nada   1\nada   1\n");
    }

    #[test]
    fn no_more_lines_than_the_screen_has_and_none_that_wraps() {
        let rows: Vec<(&str, &str, i64)> = (0..9).map(|n| ("+", "a", n)).collect();
        let text = shown(&rows);
        assert!(text.lines().count() == 5 && text.ends_with("… and 6 more rows\n"), "{text}");
        let long = shown(&[("+", &"x".repeat(200), 1)]);
        assert!(long.lines().all(|line| line.chars().count() <= 80), "{long}");
    }
}
