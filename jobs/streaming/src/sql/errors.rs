//! What the SQL planner objects to, as mistakes with a place in the file.

use super::statements::{Script, Statement};
use super::text::{Name, Span, Tok, lower_first};
use datafusion::common::{DataFusionError, SchemaError};
use datafusion::sql::sqlparser::tokenizer::Token;
use jobs::Diagnostic;

/// Carries our own diagnostic through the planner.
pub(crate) fn external(error: Diagnostic) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// A mistake in a function's call, whose place is found by the function's name.
#[derive(Debug)]
struct InCall {
    error: Diagnostic,
    function: String,
}

impl std::fmt::Display for InCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for InCall {}

pub(crate) fn in_call(error: Diagnostic, function: &str) -> DataFusionError {
    DataFusionError::External(Box::new(InCall { error, function: function.to_string() }))
}

/// Where an error happened when it does not say so itself.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) script: &'a Script,
    /// The statement's tokens.
    pub(crate) tokens: &'a [Tok],
}

impl Place<'_> {
    pub(crate) fn span(&self) -> Span {
        match self.tokens {
            [] => (0, 0),
            [first, .., last] => (first.span.0, last.span.1),
            [only] => only.span,
        }
    }

    /// Where these words stand in a row.
    pub(crate) fn find(&self, words: &[&str]) -> Option<Span> {
        let windows = self.tokens.windows(words.len());
        let found = windows.into_iter().find(|toks| toks.iter().zip(words).all(|(tok, word)| tok.is(word)))?;
        Some((found[0].span.0, found[found.len() - 1].span.1))
    }

    /// Where this name stands, in whatever case.
    pub(crate) fn find_name(&self, name: &str) -> Option<Span> {
        let wanted = name.to_lowercase();
        self.tokens
            .iter()
            .find(|tok| tok.word().is_some_and(|word| word.value.to_lowercase() == wanted))
            .map(|t| t.span)
    }

    /// Where a name of several parts stands.
    fn find_dotted(&self, name: &str) -> Option<Span> {
        let parts: Vec<&str> = name.split('.').collect();
        let is =
            |tok: &Tok, part: &str| tok.word().is_some_and(|word| word.value.to_lowercase() == part.to_lowercase());
        let found = self.tokens.windows(2 * parts.len() - 1).find(|toks| {
            let dots = toks.iter().skip(1).step_by(2).all(|tok| tok.is_token(&Token::Period));
            dots && toks.iter().step_by(2).zip(&parts).all(|(tok, part)| is(tok, part))
        })?;
        Some((found[0].span.0, found[found.len() - 1].span.1))
    }

    /// Where a function of this name is called.
    fn find_call(&self, name: &str) -> Option<Span> {
        let wanted = name.to_lowercase();
        self.tokens
            .windows(2)
            .find(|pair| {
                pair[0].word().is_some_and(|word| word.value.to_lowercase() == wanted)
                    && pair[1].is_token(&Token::LParen)
            })
            .map(|pair| pair[0].span)
    }

    /// As diagnostics; there is at least one.
    pub(crate) fn diagnose(&self, error: &DataFusionError) -> Vec<Diagnostic> {
        match error {
            DataFusionError::Collection(errors) => errors.iter().flat_map(|error| self.diagnose(error)).collect(),
            DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner)
                if !matches!(inner.find_root(), DataFusionError::Collection(_)) =>
            {
                vec![self.one(error)]
            }
            DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => self.diagnose(inner),
            DataFusionError::Shared(inner) => self.diagnose(inner),
            error => vec![self.one(error)],
        }
    }

    fn one(&self, error: &DataFusionError) -> Diagnostic {
        let said = error.diagnostic().and_then(|diagnostic| diagnostic.span).map(|span| {
            let positions = &self.script.positions;
            (positions.offset(span.start.line, span.start.column), positions.offset(span.end.line, span.end.column))
        });
        match error.find_root() {
            DataFusionError::External(inner) => {
                if let Some(own) = inner.downcast_ref::<Diagnostic>() {
                    Diagnostic { span: own.span.or(said).or(Some(self.span())), ..own.clone() }
                } else if let Some(InCall { error, function }) = inner.downcast_ref() {
                    error.clone().at(self.find_call(function).unwrap_or(self.span()))
                } else {
                    Diagnostic::new(lower_first(&inner.to_string())).at(said.unwrap_or(self.span()))
                }
            }
            DataFusionError::SchemaError(schema, _) => self.schema_error(schema, said),
            root => self.plain(root, said),
        }
    }

    fn schema_error(&self, error: &SchemaError, said: Option<Span>) -> Diagnostic {
        let at = |name: &str| said.or_else(|| self.find_name(name)).unwrap_or(self.span());
        match error {
            SchemaError::FieldNotFound { field, valid_fields } => {
                let span = at(&field.name);
                let written = self.script.text().get(span.0..span.1).filter(|text| text.len() < 80);
                let name = written.map_or(field.name.as_str(), |text| text.rsplit('.').next().unwrap_or(text));
                let mut known: Vec<&str> = valid_fields.iter().map(|field| self.script.spelled(&field.name)).collect();
                known.sort_unstable();
                known.dedup();
                Diagnostic::new(format!("unknown column '{name}'")).at(span).suggest(name, known)
            }
            SchemaError::AmbiguousReference { field } => Diagnostic::new(format!(
                "column '{}' is in more than one of the tables",
                self.script.spelled(&field.name)
            ))
            .at(at(&field.name))
            .help("write the table's name before it"),
            SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
                Diagnostic::new(format!("two columns are named '{}'", self.script.spelled(name)))
                    .at(at(name))
                    .help("rename one of them with AS")
            }
        }
    }

    fn plain(&self, root: &DataFusionError, said: Option<Span>) -> Diagnostic {
        let message = root.message();
        let message = message.split("\n\nbacktrace").next().unwrap_or_default();
        let (first, rest) = message.split_once('\n').unwrap_or((message, ""));
        let quoted = first.split('\'').nth(1);
        let help = rest.strip_prefix("Did you mean ").map(|rest| format!("did you mean {}", rest.trim()));
        if let Some(name) = first.strip_prefix("Invalid function ").and(quoted) {
            let span = said.or_else(|| self.find_call(name)).unwrap_or(self.span());
            return Diagnostic { help, ..Diagnostic::new(format!("unknown function '{name}'")).at(span) };
        }
        if first.starts_with("table ") && first.ends_with(" not found") {
            let whole = quoted.unwrap_or_default();
            let name = whole.rsplit('.').next().unwrap_or(whole);
            if name != whole {
                let span = self.find_dotted(whole).or(said).unwrap_or(self.span());
                let error = Diagnostic::new(format!("unknown table '{whole}'")).at(span);
                let known: Vec<&str> = self.script.relations().collect();
                let there = known.iter().find(|known| known.to_lowercase() == name);
                return error.help(match there {
                    Some(table) => format!("tables of a file have no schema: write {table}"),
                    None => format!("tables of a file have no schema; known: {}", known.join(", ")),
                });
            }
            let span = self.find_name(name).or(said).unwrap_or(self.span());
            let written = self.script.text().get(span.0..span.1).unwrap_or(name);
            let known: Vec<&str> = self.script.relations().collect();
            return Diagnostic::new(format!("unknown table '{written}'")).at(span).suggest(name, known);
        }
        if first.contains("require unique expression names") {
            // A cast has the name of what it casts, which the message tells of the other one.
            let named = first.split('"').skip(1).step_by(2).take(2);
            let column = named.min_by_key(|name| name.len()).unwrap_or_default();
            let column = column.rsplit('.').next().unwrap_or(column);
            let span = said.or_else(|| self.find_name(column)).unwrap_or(self.span());
            let text = format!("two columns are named '{}'", self.script.spelled(column));
            return Diagnostic::new(text).at(span).help("rename one of them with AS");
        }
        if let Some(name) = first.strip_prefix("Invalid qualifier ") {
            let text = format!("'{name}' before .* is no table of this query");
            let span = said.or_else(|| self.find_name(name)).unwrap_or(self.span());
            return Diagnostic::new(text).at(span).help(format!("of a struct write each field: {name}.…"));
        }
        if let Some((name, error)) = unfit_call(first) {
            return Diagnostic::new(error).at(self.find_call(name).or(said).unwrap_or(self.span()));
        }
        // A message about a function's arguments names the function.
        let call = first.split(['\'', '(']).find_map(|word| self.find_call(word.rsplit(' ').next().unwrap_or(word)));
        let span = said.or(call).or_else(|| quoted.and_then(|name| self.find_name(name))).unwrap_or(self.span());
        let text: String = plain_text(message).split_whitespace().collect::<Vec<_>>().join(" ");
        let text = text.as_str();
        Diagnostic::new(lower_first(text.trim_end_matches('.'))).at(span)
    }
}

/// What DataFusion puts around its messages, and behind them for its own developers.
fn plain_text(message: &str) -> &str {
    const BEFORE: [&str; 5] = [
        "This feature is not implemented: ",
        "Internal error: ",
        "Execution error: ",
        "Error during planning: ",
        "type_coercion\ncaused by\n",
    ];
    const BEHIND: [&str; 3] =
        [". No function matches the given name", "\nThis issue was likely caused", " Candidate functions:"];
    let mut text = message;
    while let Some(rest) = BEFORE.iter().find_map(|before| text.strip_prefix(before)) {
        text = rest;
    }
    let end = BEHIND.iter().filter_map(|behind| text.find(behind)).min();
    &text[..end.unwrap_or(text.len())]
}

/// A call whose arguments fit none of a function's signatures: its name, and why not in one sentence.
fn unfit_call(message: &str) -> Option<(&str, String)> {
    let name = message.split('\'').nth(1)?;
    let (_, errors) = message.split_once(" failed to match any signature, errors: ")?;
    let first = errors.split("Error during planning: ").nth(1).unwrap_or(errors);
    if let Some((_, counts)) = first.split_once(" expects ") {
        let (wanted, given) = counts.split_once(" arguments but received ")?;
        let given: String = given.chars().take_while(char::is_ascii_digit).collect();
        let arguments = if wanted == "1" { "argument" } else { "arguments" };
        return Some((name, format!("{name} takes {wanted} {arguments}, and is given {given}")));
    }
    let (_, given) = first.split_once("but received ")?;
    let given = given.split([' ', ',']).next().unwrap_or(given);
    Some((name, format!("{name} does not take a value of type {given}")))
}

impl Script {
    /// The statement that declares a view.
    pub(crate) fn view_place(&self, name: &Name) -> Option<Place<'_>> {
        let declares = |statement: &&Statement| statement.body.view().is_some_and(|view| view.name.key() == name.key());
        let statement = self.statements.iter().find(declares)?;
        Some(Place { script: self, tokens: &statement.tokens })
    }

    /// Names of tables and views.
    pub(crate) fn relations(&self) -> impl Iterator<Item = &str> {
        self.tables().map(|table| table.name.text.as_str()).chain(self.views().map(|view| view.name.text.as_str()))
    }
}
