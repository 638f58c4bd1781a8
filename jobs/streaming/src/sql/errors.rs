//! What the SQL planner objects to, as mistakes with a place in the file.

use super::statements::Script;
use super::text::{Span, Tok, lower_first};
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
            let name = quoted.unwrap_or_default();
            let name = name.rsplit('.').next().unwrap_or(name);
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
        // A message about a function's arguments names the function.
        let call = first.split(['\'', '(']).find_map(|word| self.find_call(word.rsplit(' ').next().unwrap_or(word)));
        let span = said.or(call).or_else(|| quoted.and_then(|name| self.find_name(name))).unwrap_or(self.span());
        let text: String = message.split_whitespace().collect::<Vec<_>>().join(" ");
        let text = text.strip_prefix("This feature is not implemented: ").unwrap_or(&text);
        Diagnostic::new(lower_first(text.trim_end_matches('.'))).at(span)
    }
}

impl Script {
    /// Names of tables and views.
    pub(crate) fn relations(&self) -> impl Iterator<Item = &str> {
        self.tables().map(|table| table.name.text.as_str()).chain(self.views().map(|view| view.name.text.as_str()))
    }
}
