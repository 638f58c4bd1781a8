//! Cuts a byte stream into records: lines, except that a CSV line goes on inside quotes.
//!
//! Invariant: memory stays bounded whatever the stream holds; what is longer than [`MOST_RECORD_BYTES`] is cut, and
//! its pieces are then rejected as records by the decoder.

use super::Format;
use crate::TableDef;
use jobs::Diagnostic;
use std::io::{BufRead, Result};

/// One record of a file; also bounds what an unclosed quote can swallow.
const MOST_RECORD_BYTES: usize = 16 << 20;

/// Where within a CSV record a reader stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scan {
    #[default]
    FieldStart,
    InField,
    InQuotes,
    /// A quote within quotes: the end of the quoted part, or half of an escaped quote.
    AfterQuote,
}

impl Scan {
    /// Takes the next byte and tells whether it ended the record.
    pub fn ends_record(&mut self, byte: u8, delimiter: u8) -> bool {
        *self = match (*self, byte) {
            (Self::InQuotes, b'"') => Self::AfterQuote,
            (Self::InQuotes, _) => Self::InQuotes,
            (Self::FieldStart | Self::AfterQuote, b'"') => Self::InQuotes,
            (_, b'\n' | b'\r') => {
                *self = Self::FieldStart;
                return true;
            }
            (_, byte) if byte == delimiter => Self::FieldStart,
            _ => Self::InField,
        };
        false
    }
}

/// How the records of a stream are told apart.
#[derive(Clone, Copy, Debug)]
pub struct LineSplitter {
    /// Set for CSV.
    delimiter: Option<u8>,
}

impl LineSplitter {
    /// How the files of a table are cut.
    pub fn of(table: &TableDef) -> std::result::Result<Self, Diagnostic> {
        let delimiter = super::csv::delimiter(table)?;
        Ok(Self { delimiter: (Format::of(table)? == Format::Csv).then_some(delimiter) })
    }

    /// The character between two fields, for CSV.
    pub fn delimiter(self) -> Option<u8> {
        self.delimiter
    }

    pub fn split<R: BufRead>(self, stream: R) -> Lines<R> {
        Lines { stream, splitter: self }
    }
}

/// The records of one stream.
#[derive(Debug)]
pub struct Lines<R> {
    stream: R,
    splitter: LineSplitter,
}

impl<R: BufRead> Lines<R> {
    /// Puts the next record, without its line end, into `record`; false at the end of the stream.
    pub fn next_record(&mut self, record: &mut Vec<u8>) -> Result<bool> {
        record.clear();
        let mut scan = Scan::default();
        loop {
            let begin = record.len();
            if !self.next_line(record)? {
                return Ok(begin > 0);
            }
            let complete = match self.splitter.delimiter {
                None => true,
                Some(delimiter) => {
                    let mut ended = false;
                    for byte in &record[begin..] {
                        // A carriage return is judged by the decoder; here only line feeds separate.
                        if *byte != b'\r' {
                            ended = scan.ends_record(*byte, delimiter);
                        }
                    }
                    ended
                }
            };
            if complete || record.len() >= MOST_RECORD_BYTES {
                strip_line_end(record);
                return Ok(true);
            }
        }
    }

    /// Appends up to and including the next line feed, or up to the most that a record may have.
    fn next_line(&mut self, record: &mut Vec<u8>) -> Result<bool> {
        let begin = record.len();
        loop {
            let buffer = match self.stream.fill_buf() {
                Ok(buffer) => buffer,
                Err(why) if why.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(why) => return Err(why),
            };
            if buffer.is_empty() {
                return Ok(record.len() > begin);
            }
            let room = MOST_RECORD_BYTES.saturating_sub(record.len()).max(1);
            let within = &buffer[..buffer.len().min(room)];
            let line_end = memchr::memchr(b'\n', within);
            let taken = line_end.map_or(within.len(), |at| at + 1);
            record.extend_from_slice(&within[..taken]);
            self.stream.consume(taken);
            if line_end.is_some() || record.len() >= MOST_RECORD_BYTES {
                return Ok(true);
            }
        }
    }
}

fn strip_line_end(record: &mut Vec<u8>) {
    if record.last() == Some(&b'\n') {
        record.pop();
        if record.last() == Some(&b'\r') {
            record.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(format: Format, text: &str) -> Vec<String> {
        let mut lines = LineSplitter { delimiter: (format == Format::Csv).then_some(b',') }.split(text.as_bytes());
        let mut record = Vec::new();
        let mut all = Vec::new();
        while lines.next_record(&mut record).unwrap() {
            all.push(String::from_utf8(record.clone()).unwrap());
        }
        all
    }

    #[test]
    fn lines_are_records_and_quotes_hold_lines_together() {
        assert_eq!(records(Format::Json, "{\"a\":\"\n"), ["{\"a\":\""]);
        assert_eq!(records(Format::Json, "a\r\n\nb"), ["a", "", "b"]);
        assert_eq!(records(Format::Csv, "a,\"x\ny\"\"\n\"\nb,c\n"), ["a,\"x\ny\"\"\n\"", "b,c"]);
        assert_eq!(records(Format::Csv, "a\"b,c\nd,e"), ["a\"b,c", "d,e"]);
        assert_eq!(records(Format::Csv, "a,\"open\nrest"), ["a,\"open\nrest"]);
        assert_eq!(records(Format::Csv, ""), Vec::<String>::new());
    }
}
