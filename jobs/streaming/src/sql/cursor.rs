//! Walks over the tokens of one statement, and hands what is an expression, a type or a query to the SQL parser.

use super::dialect::StreamDialect;
use super::precedence;
use super::returning;
use super::target::Defaults;
use super::text::{Name, Positions, Span, Tok, lower_first};
use datafusion::sql::sqlparser::ast::{DataType as SqlType, VisitMut};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use jobs::Diagnostic;

/// Words whose misspelling the SQL parser takes for a name, so that it stumbles over the word after it.
const CLAUSES: [&str; 16] = [
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP",
    "HAVING",
    "ORDER",
    "UNION",
    "LIMIT",
    "JOIN",
    "INTERVAL",
    "DISTINCT",
    "VALUES",
    "BETWEEN",
    "WATERMARK",
    "PRIMARY",
    "WITH",
];

/// Words before the '<' of a type's parts.
const TYPES_OF_TYPES: [&str; 4] = ["STRUCT", "ROW", "ARRAY", "MAP"];

pub(crate) type Parsed<T> = Result<T, Diagnostic>;

pub(crate) struct Cursor<'a> {
    pub(crate) toks: &'a [Tok],
    pub(crate) at: usize,
    positions: &'a Positions,
    /// What tables that do not say it get.
    pub(crate) defaults: &'a Defaults,
    /// Where the text stops when the tokens are used up.
    end: usize,
}

impl<'a> Cursor<'a> {
    /// `toks` is not empty or `end` says where the missing words should stand.
    pub(crate) fn new(positions: &'a Positions, defaults: &'a Defaults, toks: &'a [Tok], end: usize) -> Self {
        Self { toks, at: 0, positions, defaults, end }
    }

    pub(crate) fn peek(&self) -> Option<&'a Tok> {
        self.toks.get(self.at)
    }

    pub(crate) fn done(&self) -> bool {
        self.at >= self.toks.len()
    }

    pub(crate) fn peek_is(&self, keyword: &str) -> bool {
        self.peek().is_some_and(|tok| tok.is(keyword))
    }

    /// Whether these words come next.
    pub(crate) fn peek_all(&self, keywords: &[&str]) -> bool {
        keywords.iter().enumerate().all(|(n, word)| self.toks.get(self.at + n).is_some_and(|tok| tok.is(word)))
    }

    pub(crate) fn accept(&mut self, keywords: &[&str]) -> bool {
        let found = self.peek_all(keywords);
        if found {
            self.at += keywords.len();
        }
        found
    }

    pub(crate) fn accept_token(&mut self, token: &Token) -> bool {
        let found = self.peek().is_some_and(|tok| tok.is_token(token));
        self.at += usize::from(found);
        found
    }

    pub(crate) fn expect(&mut self, keyword: &str) -> Parsed<()> {
        if self.accept(&[keyword]) { Ok(()) } else { Err(self.expected_one_of(&[keyword])) }
    }

    pub(crate) fn expect_token(&mut self, token: &Token) -> Parsed<()> {
        if self.accept_token(token) { Ok(()) } else { Err(self.expected(&format!("'{token}'"))) }
    }

    /// A mistake at the next token.
    pub(crate) fn expected(&self, what: &str) -> Diagnostic {
        Diagnostic::new(format!("expected {what}, found {}", self.found())).at(self.here())
    }

    /// As [`expected`](Self::expected), with the nearest word suggested.
    pub(crate) fn expected_one_of(&self, keywords: &[&str]) -> Diagnostic {
        let diagnostic = self.expected(&keywords.join(" or "));
        match self.peek().and_then(Tok::word).and_then(|word| near_keyword(&word.value, keywords)) {
            Some(near) => diagnostic.help(format!("did you mean {near}?")),
            None => diagnostic,
        }
    }

    /// Where the words in capitals stand that a message begins with.
    pub(crate) fn find_words(&self, message: &str) -> Option<Span> {
        let capital = |word: &&str| word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
        let words: Vec<&str> = message.split(' ').take_while(capital).collect();
        if words.is_empty() {
            return None;
        }
        let found = self.toks.windows(words.len());
        let found = found.into_iter().find(|toks| toks.iter().zip(&words).all(|(tok, word)| tok.is(word)))?;
        Some((found[0].span.0, found[found.len() - 1].span.1))
    }

    fn found(&self) -> String {
        self.peek().map_or("the end of the statement".into(), |tok| format!("'{}'", self.text(tok.span)))
    }

    /// The place of the next token, or an empty place behind the last.
    pub(crate) fn here(&self) -> Span {
        self.peek().map_or((self.end, self.end), |tok| tok.span)
    }

    /// The end of the token before.
    pub(crate) fn last_end(&self) -> usize {
        self.at.checked_sub(1).and_then(|at| self.toks.get(at)).map_or(self.end, |tok| tok.span.1)
    }

    pub(crate) fn text(&self, span: Span) -> &'a str {
        &self.positions.text[span.0..span.1]
    }

    pub(crate) fn name(&mut self, what: &str) -> Parsed<Name> {
        let Some((tok, word)) = self.peek().and_then(|tok| tok.word().map(|word| (tok, word))) else {
            return Err(self.expected(what));
        };
        self.at += 1;
        Ok(Name { text: word.value.clone(), span: tok.span })
    }

    /// `(a, b)`.
    pub(crate) fn names(&mut self, what: &str) -> Parsed<Vec<Name>> {
        self.expect_token(&Token::LParen)?;
        let mut names = vec![self.name(what)?];
        while self.accept_token(&Token::Comma) {
            names.push(self.name(what)?);
        }
        self.expect_token(&Token::RParen)?;
        Ok(names)
    }

    /// What stands between the next `(` and its `)`, cut at its commas; also the place of the `)`.
    pub(crate) fn parenthesized(&mut self) -> Parsed<(Vec<&'a [Tok]>, usize)> {
        let open = self.here();
        self.expect_token(&Token::LParen)?;
        let (mut depth, mut items, mut start) = (0usize, Vec::new(), self.at);
        // Of types like STRUCT<a INT, b INT>; any other '<' compares.
        let mut angles = 0usize;
        while let Some(tok) = self.peek() {
            match &tok.token.token {
                Token::Lt if self.at > 0 && TYPES_OF_TYPES.iter().any(|word| self.toks[self.at - 1].is(word)) => {
                    angles += 1;
                }
                Token::Gt => angles = angles.saturating_sub(1),
                Token::ShiftRight => angles = angles.saturating_sub(2),
                Token::LParen | Token::LBracket | Token::LBrace => depth += 1,
                Token::RParen if depth == 0 => {
                    if start < self.at || !items.is_empty() {
                        items.push(&self.toks[start..self.at]);
                    }
                    self.at += 1;
                    return Ok((items, tok.span.0));
                }
                Token::RParen | Token::RBracket | Token::RBrace => depth = depth.saturating_sub(1),
                Token::Comma if depth == 0 && angles == 0 => {
                    items.push(&self.toks[start..self.at]);
                    start = self.at + 1;
                }
                _ => {}
            }
            self.at += 1;
        }
        Err(Diagnostic::new("'(' is never closed").at(open))
    }

    /// A cursor over a part of these tokens.
    pub(crate) fn part(&self, toks: &'a [Tok], end: usize) -> Cursor<'a> {
        Cursor::new(self.positions, self.defaults, toks, end)
    }

    /// Runs the SQL parser from here on.
    pub(crate) fn sql<T: VisitMut>(
        &mut self,
        parse: impl FnOnce(&mut Parser) -> Result<T, ParserError>,
    ) -> Parsed<(T, Span)> {
        let tokens = self.toks[self.at.min(self.toks.len())..].iter().map(Tok::lowered).collect();
        let (mut parsed, span) = self.parse(tokens, parse)?;
        precedence::settle(&mut parsed);
        returning::settle(&mut parsed);
        Ok((parsed, span))
    }

    /// Runs the SQL parser from here on for a type, in which names keep their case. `ROW(a INT)` is said as
    /// `STRUCT<a INT>`, which is what the parser knows.
    pub(crate) fn sql_type(&mut self) -> Parsed<(SqlType, Span)> {
        let mut tokens: Vec<TokenWithSpan> =
            self.toks[self.at.min(self.toks.len())..].iter().map(|tok| tok.token.clone()).collect();
        rows_as_structs(&mut tokens);
        self.parse(tokens, |parser| parser.parse_data_type())
    }

    fn parse<T>(
        &mut self,
        tokens: Vec<TokenWithSpan>,
        parse: impl FnOnce(&mut Parser) -> Result<T, ParserError>,
    ) -> Parsed<(T, Span)> {
        let versions = self.toks.windows(2).any(|toks| toks[0].is("FOR") && toks[1].is("SYSTEM_TIME"));
        let dialect = StreamDialect { versions };
        let mut parser = Parser::new(&dialect).with_tokens_with_locations(tokens);
        let start = self.here().0;
        match parse(&mut parser) {
            Ok(value) => {
                self.at += parser.index().min(self.toks.len() - self.at);
                Ok((value, (start, self.last_end())))
            }
            Err(error) => Err(self.sql_error(&error)),
        }
    }

    /// Nothing may follow. A word that follows a query is often a misspelled clause that was taken for an alias.
    pub(crate) fn finish(&self) -> Parsed<()> {
        if self.done() { Ok(()) } else { Err(self.misspelled(self.at).unwrap_or_else(|| self.expected("';'"))) }
    }

    fn sql_error(&self, error: &ParserError) -> Diagnostic {
        let text = match error {
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.as_str(),
            ParserError::RecursionLimitExceeded => "this is nested too deeply",
        };
        let (message, place) = match text.rsplit_once(" at Line: ") {
            Some((message, place)) => (message, place.split_once(", Column: ")),
            None => (text, None),
        };
        let offset = place
            .and_then(|(line, column)| Some(self.positions.offset(line.parse().ok()?, column.parse().ok()?)))
            .unwrap_or(self.end);
        let at = self.toks.iter().position(|tok| tok.span.0 >= offset).unwrap_or(self.toks.len());
        // For a reserved word the parser tells the place of the word after it.
        let found = message.rsplit_once(", found: ").map(|(_, found)| found);
        let says = |at: usize| self.toks.get(at).is_some_and(|tok| found == Some(self.text(tok.span)));
        let at = if !says(at) && at.checked_sub(1).is_some_and(says) { at - 1 } else { at };
        if let Some(diagnostic) = self.misspelled(at) {
            return diagnostic;
        }
        let span = self.toks.get(at).map_or((self.end, self.end), |tok| tok.span);
        let message =
            message.replace("Expected: ", "expected ").replace("found: EOF", "found the end of the statement");
        let message = match message.split_once(", found: ") {
            Some((expected, found)) => format!("{expected}, found '{found}'"),
            None => message,
        };
        Diagnostic::new(lower_first(&message)).at(span)
    }

    /// Whether the token at `at`, or one of the two before it, is nearly a clause's word.
    fn misspelled(&self, at: usize) -> Option<Diagnostic> {
        (at.saturating_sub(2)..=at).rev().find_map(|at| {
            let tok = self.toks.get(at)?;
            let word = tok.word().filter(|word| word.quote_style.is_none())?;
            let near = near_keyword(&word.value, &CLAUSES)?;
            Some(
                Diagnostic::new(format!("'{}' is no keyword", word.value))
                    .at(tok.span)
                    .help(format!("did you mean {near}?")),
            )
        })
    }
}

/// Says `ROW(…)` and `ROW<…>` as `STRUCT<…>`, token by token, so that places stay.
fn rows_as_structs(tokens: &mut [TokenWithSpan]) {
    // Of the open parentheses, whether they are those of a ROW.
    let mut open = Vec::new();
    for at in 0..tokens.len() {
        let row = |at: Option<usize>| match at.map(|at| &tokens[at].token) {
            Some(Token::Word(word)) => word.quote_style.is_none() && word.value.eq_ignore_ascii_case("ROW"),
            _ => false,
        };
        let after_row = row(at.checked_sub(1));
        match tokens[at].token {
            Token::Lt if after_row => tokens[at - 1].token = Token::make_keyword("STRUCT"),
            Token::LParen if after_row => {
                tokens[at - 1].token = Token::make_keyword("STRUCT");
                tokens[at].token = Token::Lt;
                open.push(true);
            }
            Token::LParen => open.push(false),
            Token::RParen if open.pop() == Some(true) => tokens[at].token = Token::Gt,
            _ => {}
        }
    }
}

/// The keyword that `word` misspells: close, but not itself one.
pub(crate) fn near_keyword<'k>(word: &str, keywords: &[&'k str]) -> Option<&'k str> {
    let upper = word.to_ascii_uppercase();
    if keywords.contains(&upper.as_str()) || CLAUSES.contains(&upper.as_str()) {
        return None;
    }
    let farthest = if upper.len() >= 6 { 2 } else { 1 };
    keywords
        .iter()
        .map(|keyword| (strsim::damerau_levenshtein(&upper, keyword), *keyword))
        .filter(|(distance, keyword)| *distance <= farthest && keyword.len() >= 4 && upper.len() >= 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, keyword)| keyword)
}
