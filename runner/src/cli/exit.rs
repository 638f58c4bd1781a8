//! How a command ends badly: its exit code, what is told to the person, and what is told to a program.

use crate::caret;
use crate::client;
use crate::view::Failure;
use jobs::Diagnostic;

/// The job or the operation failed.
pub const FAILED: u8 = 1;
/// Wrong usage, or a file with mistakes.
pub const BAD_INPUT: u8 = 2;
/// The runner does not answer.
pub const UNREACHABLE: u8 = 3;

pub const HELP: &str = "\
Exit codes:
  0  done
  1  the job or the operation failed
  2  wrong usage, or mistakes in a file (each is shown with its place)
  3  the runner cannot be reached

Data goes to standard output, progress and errors to standard error. With -o json an error is one JSON object
{\"error\": …, \"diagnostics\": […]} on standard error. NO_COLOR is respected.";

#[derive(Debug)]
pub enum Fail {
    /// Nobody reads our output any more (`smack ps | head -1`): ends quietly and well.
    OutputClosed,
    Told(Box<Told>),
}

#[derive(Debug)]
pub struct Told {
    pub code: u8,
    pub failure: Failure,
    /// Name and text of the file that the diagnostics are about.
    pub file: Option<(String, String)>,
}

pub type Result<T> = std::result::Result<T, Fail>;

impl Fail {
    pub fn new(code: u8, error: impl Into<String>) -> Self {
        let failure = Failure { error: error.into(), diagnostics: Vec::new() };
        Self::Told(Box::new(Told { code, failure, file: None }))
    }

    /// Mistakes in a file.
    pub fn mistakes(file: &str, text: &str, diagnostics: Vec<Diagnostic>) -> Self {
        let failure = Failure { error: caret::headline(file, &diagnostics), diagnostics };
        Self::Told(Box::new(Told { code: BAD_INPUT, failure, file: Some((file.to_string(), text.to_string())) }))
    }

    pub fn code(&self) -> u8 {
        match self {
            Self::OutputClosed => 0,
            Self::Told(told) => told.code,
        }
    }

    /// The text for standard error.
    pub fn render(&self, json: bool, colour: bool) -> String {
        let Self::Told(told) = self else { return String::new() };
        if json {
            // Strings and numbers only: this form always exists.
            return serde_json::to_string(&told.failure).unwrap_or_else(|error| error.to_string()) + "\n";
        }
        let mut shown = match &told.file {
            Some((file, text)) => caret::render(text, file, &told.failure.diagnostics, colour),
            None => String::new(),
        };
        shown.push_str(&format!("error: {}\n", told.failure.error));
        if told.file.is_none() {
            for diagnostic in &told.failure.diagnostics {
                shown.push_str(&format!("  {diagnostic}\n"));
            }
        }
        shown
    }
}

impl From<client::Error> for Fail {
    fn from(error: client::Error) -> Self {
        match error {
            client::Error::Unreachable { .. } => Self::new(UNREACHABLE, format!("failed to {error}")),
            client::Error::Refused { status, failure } => {
                let code = if status == 422 || status == 400 { BAD_INPUT } else { FAILED };
                Self::Told(Box::new(Told { code, failure, file: None }))
            }
            client::Error::BadAddress { .. } | client::Error::Token { .. } => {
                Self::new(BAD_INPUT, format!("failed to {error}"))
            }
            client::Error::Strange { .. } | client::Error::Untrusted { .. } => {
                Self::new(FAILED, format!("failed to {error}"))
            }
        }
    }
}

impl From<anyhow::Error> for Fail {
    fn from(error: anyhow::Error) -> Self {
        Self::new(FAILED, format!("{error:#}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_follow_the_kind_of_failure() {
        let unreachable = client::Error::Unreachable { url: "http://h:1".into(), reason: "refused".into() };
        assert_eq!(Fail::from(unreachable).code(), 3);
        let refused = |status| client::Error::Refused { status, failure: Failure::default() };
        assert_eq!(Fail::from(refused(422)).code(), 2);
        assert_eq!(Fail::from(refused(404)).code(), 1);
        assert_eq!(Fail::OutputClosed.code(), 0);
    }

    #[test]
    fn mistakes_for_people_and_programs() {
        let fail = Fail::mistakes("a.sql", "SELEC 1", vec![Diagnostic::new("no such statement").at((0, 5))]);
        let shown = fail.render(false, false);
        assert!(shown.contains("^^^^^") && shown.ends_with("error: 1 mistake in a.sql\n"), "{shown}");
        let failure: Failure = serde_json::from_str(&fail.render(true, false)).unwrap();
        assert_eq!(failure.diagnostics[0].span, Some((0, 5)));
    }
}
