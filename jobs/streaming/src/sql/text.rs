//! The written text of a job file as tokens with byte places.
//!
//! Invariant: every place handed out is a byte range of the text on character boundaries.

use super::dialect::StreamDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Word};
use jobs::Diagnostic;
use std::sync::Arc;

/// A byte range of the file.
pub type Span = (usize, usize);

/// A name as it was written, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub text: String,
    pub span: Span,
}

impl Name {
    /// What names are compared by.
    pub fn key(&self) -> String {
        self.text.to_lowercase()
    }
}

/// Turns the parser's lines and columns into byte offsets.
#[derive(Clone, Debug)]
pub(crate) struct Positions {
    pub(crate) text: Arc<str>,
    lines: Arc<[Line]>,
}

#[derive(Debug)]
struct Line {
    start: usize,
    /// Byte offsets, in the text, of every [`STEP`]th character; none where every character is one byte. A generated file
    /// may be one line of megabytes, which is not to be walked through for each token.
    marks: Vec<usize>,
}

/// Few steps within a mark, and little memory for marks.
const STEP: usize = 64;

impl Positions {
    pub(crate) fn new(text: &str) -> Self {
        let mut lines = Vec::new();
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            let marks = match line.is_ascii() {
                true => Vec::new(),
                false => line.char_indices().step_by(STEP).map(|(at, _)| start + at).collect(),
            };
            lines.push(Line { start, marks });
            start += line.len();
        }
        if text.is_empty() || text.ends_with('\n') {
            lines.push(Line { start, marks: Vec::new() });
        }
        Self { lines: lines.into(), text: text.into() }
    }

    /// Lines and columns count from 1, columns in characters; what lies outside the text is moved to its nearest end.
    pub(crate) fn offset(&self, line: u64, column: u64) -> usize {
        let at = (line.max(1) as usize - 1).min(self.lines.len() - 1);
        let line = &self.lines[at];
        let end = self.lines.get(at + 1).map_or(self.text.len(), |next| next.start);
        let column = column.max(1) as usize - 1;
        if line.marks.is_empty() {
            return line.start.saturating_add(column).min(end);
        }
        let Some(mark) = line.marks.get(column / STEP) else { return end };
        self.text[*mark..end].char_indices().nth(column % STEP).map_or(end, |(at, _)| mark + at)
    }

    pub(crate) fn span(&self, start: Location, end: Location) -> Span {
        (self.offset(start.line, start.column), self.offset(end.line, end.column))
    }
}

/// One token that is not white space or a comment.
#[derive(Clone, Debug)]
pub(crate) struct Tok {
    pub(crate) token: TokenWithSpan,
    pub(crate) span: Span,
}

impl Tok {
    pub(crate) fn word(&self) -> Option<&Word> {
        match &self.token.token {
            Token::Word(word) => Some(word),
            _ => None,
        }
    }

    /// Whether this is the unquoted word `keyword`.
    pub(crate) fn is(&self, keyword: &str) -> bool {
        self.word().is_some_and(|word| word.quote_style.is_none() && word.value.eq_ignore_ascii_case(keyword))
    }

    pub(crate) fn is_token(&self, token: &Token) -> bool {
        self.token.token == *token
    }

    /// For the expression parser: quoted names in lower case, because names match without regard to case and the
    /// planner lowers the unquoted ones itself.
    pub(crate) fn lowered(&self) -> TokenWithSpan {
        let mut token = self.token.clone();
        if let Token::Word(word) = &mut token.token
            && word.quote_style.is_some()
        {
            word.value = word.value.to_lowercase();
        }
        token
    }
}

pub(crate) fn tokenize(positions: &Positions) -> Result<Vec<Tok>, Diagnostic> {
    let tokens = Tokenizer::new(&StreamDialect { versions: false }, &positions.text).tokenize_with_location().map_err(
        |error| {
            let start = positions.offset(error.location.line, error.location.column);
            let mut end = (start + 1).min(positions.text.len());
            while !positions.text.is_char_boundary(end) {
                end += 1;
            }
            Diagnostic::new(lower_first(&error.message)).at((start.min(end), end))
        },
    )?;
    Ok(tokens
        .into_iter()
        .filter(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF))
        .map(|token| Tok { span: positions.span(token.span.start, token.span.end), token })
        .collect())
}

/// Messages are fragments: the first letter is lower unless the first word is written in capitals.
pub(crate) fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if first.is_uppercase() && !second.is_uppercase() => {
            first.to_lowercase().chain(text.chars().skip(1)).collect()
        }
        _ => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_characters_and_lines() {
        let positions = Positions::new("SELECT 'żółw',\r\n  \"Å\" FROM t;");
        let tokens = tokenize(&positions).unwrap();
        let words: Vec<&str> = tokens.iter().map(|tok| &positions.text[tok.span.0..tok.span.1]).collect();
        assert_eq!(words, ["SELECT", "'żółw'", ",", "\"Å\"", "FROM", "t", ";"]);
        assert_eq!(tokens[3].lowered().token.to_string(), "\"å\"");
    }

    #[test]
    fn places_in_a_long_line_are_found_without_walking_it() {
        for letter in ["a", "ł"] {
            let text = format!("{}\nx", format!("'{letter}', ").repeat(100_000));
            let began = std::time::Instant::now();
            let tokens = tokenize(&Positions::new(&text)).unwrap();
            assert!(began.elapsed().as_secs() < 20, "{:?} for {} tokens", began.elapsed(), tokens.len());
            assert_eq!(tokens.len(), 200_001);
            let words = |at: usize| &text[tokens[at].span.0..tokens[at].span.1];
            assert_eq!((words(199_998), words(199_999), words(200_000)), (&*format!("'{letter}'"), ",", "x"));
        }
        let positions = Positions::new("ab\ncł");
        assert_eq!([(1, 9), (2, 1), (2, 9), (7, 1)].map(|(line, column)| positions.offset(line, column)), [3, 3, 6, 3]);
    }

    #[test]
    fn an_open_string_is_shown_where_it_opens() {
        let error = tokenize(&Positions::new("SELECT\n 'abc")).unwrap_err();
        assert_eq!((error.message.as_str(), error.span), ("unterminated string literal", Some((8, 9))));
    }
}
