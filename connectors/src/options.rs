//! Reads the options of a table as typed values.
//!
//! Invariant: a value that does not fit becomes a [`Diagnostic`] under the very value, saying what would fit. Defaults
//! live with the caller, beside the [`crate::OptionInfo`] that tells people about them.

use crate::{Error, OptionEntry, TableDef};
use jobs::Diagnostic;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

/// The options of one table.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    entries: &'a [OptionEntry],
}

impl<'a> Options<'a> {
    pub fn new(table: &'a TableDef) -> Self {
        Self { entries: &table.options }
    }

    pub fn entry(&self, key: &str) -> Option<&'a OptionEntry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    pub fn text(&self, key: &str) -> Option<&'a str> {
        self.entry(key).map(|entry| entry.value.as_str())
    }

    /// A diagnostic about the value of `key`.
    pub fn wrong(&self, key: &str, message: impl Into<String>) -> Diagnostic {
        let mut wrong = Diagnostic::new(message);
        wrong.span = self.entry(key).and_then(|entry| entry.value_span.or(entry.key_span));
        wrong
    }

    /// A whole or decimal number within the type's range.
    pub fn number<T: FromStr>(&self, key: &str) -> Result<Option<T>, Diagnostic> {
        let Some(entry) = self.entry(key) else { return Ok(None) };
        match entry.value.trim().replace('_', "").parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => {
                Err(self.wrong(key, format!("option '{key}' is '{}', which is not a fitting number", entry.value)))
            }
        }
    }

    /// A number that is also at least `least` and at most `most`.
    pub fn number_within<T>(&self, key: &str, least: T, most: T) -> Result<Option<T>, Diagnostic>
    where
        T: FromStr + PartialOrd + Display,
    {
        match self.number(key)? {
            Some(number) if number < least || number > most => {
                Err(self.wrong(key, format!("option '{key}' is {number}, but must be from {least} to {most}")))
            }
            other => Ok(other),
        }
    }

    pub fn duration(&self, key: &str) -> Result<Option<Duration>, Diagnostic> {
        let Some(entry) = self.entry(key) else { return Ok(None) };
        jobs::text::parse_duration(&entry.value)
            .map(Some)
            .map_err(|why| self.wrong(key, format!("option '{key}' is not a duration: {why}")))
    }

    pub fn bool(&self, key: &str) -> Result<Option<bool>, Diagnostic> {
        match self.one_of(key, &["true", "false"])? {
            Some(word) => Ok(Some(word == "true")),
            None => Ok(None),
        }
    }

    /// One of some words; the answer is the word itself.
    pub fn one_of<'w>(&self, key: &str, words: &[&'w str]) -> Result<Option<&'w str>, Diagnostic> {
        let Some(entry) = self.entry(key) else { return Ok(None) };
        match words.iter().find(|word| word.eq_ignore_ascii_case(&entry.value)) {
            Some(word) => Ok(Some(word)),
            None => Err(self
                .wrong(key, format!("option '{key}' is '{}', but must be one of {}", entry.value, words.join(", ")))
                .suggest(&entry.value, words.iter().copied())),
        }
    }
}

/// A declaration that was not checked before it was opened fails there, with the same words.
impl From<Diagnostic> for Error {
    fn from(wrong: Diagnostic) -> Self {
        Error::Fatal(wrong.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::table;

    #[test]
    fn values_are_typed_and_mistakes_stand_under_the_value() {
        let table = table(&[], &[("rate", "1_000"), ("wait", "5s"), ("header", "TRUE"), ("mode", "latst"), ("n", "x")]);
        let options = Options::new(&table);
        assert_eq!(options.number::<u64>("rate"), Ok(Some(1000)));
        assert_eq!(options.number::<u64>("absent"), Ok(None));
        assert!(options.number_within::<u64>("rate", 1, 10).unwrap_err().message.contains("from 1 to 10"));
        assert_eq!(options.duration("wait"), Ok(Some(Duration::from_secs(5))));
        assert_eq!(options.bool("header"), Ok(Some(true)));
        let wrong = options.one_of("mode", &["earliest", "latest"]).unwrap_err();
        assert_eq!(wrong.help.as_deref(), Some("did you mean 'latest'?"));
        assert_eq!(wrong.span, table.options[3].value_span);
        assert!(options.number::<u64>("n").is_err());
    }
}
