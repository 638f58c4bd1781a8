//! One mistake in a text that a user wrote: what is wrong, where, and the way out.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A mistake in a job file. `span` is a byte range of the file's text; without one the whole file is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// A lowercase fragment without a full stop, for example "unknown connector 'kafak'".
    pub message: String,
    pub span: Option<(usize, usize)>,
    /// The way out, for example "did you mean 'kafka'?".
    pub help: Option<String>,
}

impl Diagnostic {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), span: None, help: None }
    }

    pub fn at(mut self, span: (usize, usize)) -> Self {
        self.span = Some(span);
        self
    }

    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds "did you mean …?" when a candidate is near, else the whole list of what exists.
    pub fn suggest<'a>(self, word: &str, candidates: impl IntoIterator<Item = &'a str> + Clone) -> Self {
        match crate::text::nearest(word, candidates.clone()) {
            Some(near) => self.help(format!("did you mean '{near}'?")),
            None => {
                let all: Vec<&str> = candidates.into_iter().collect();
                if all.is_empty() { self } else { self.help(format!("known: {}", all.join(", "))) }
            }
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Diagnostic {}

/// Line and column of a byte offset, both counted from 1; the column counts characters.
pub fn line_column(text: &str, offset: usize) -> (usize, usize) {
    let offset = offset.min(text.len());
    let before = &text.as_bytes()[..offset];
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    (line, String::from_utf8_lossy(&before[start..]).chars().count() + 1)
}
