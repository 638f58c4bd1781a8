//! Parameters of a query that a client prepares once and asks with several values: `?` each, or `$1`, `$2`, ….
//!
//! Invariant: a plan that runs has none left. A value is what a literal in its place would be, so its type is settled as that
//! of a literal is.

use super::errors::Place;
use super::text::{Span, Tok};
use super::types::sql_name;
use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::tokenizer::Token;
use jobs::Diagnostic;
use std::borrow::Cow;
use std::collections::HashMap;

/// More of them are a mistake, and not worth the memory.
const MOST: usize = 65_535;

/// The tokens of a statement with its `?` numbered.
pub(crate) fn numbered(toks: &[Tok]) -> Result<Cow<'_, [Tok]>, Diagnostic> {
    let (mut n_asked, mut is_numbered) = (0, false);
    for (text, span) in written(toks) {
        match text {
            "?" => n_asked += 1,
            text => match number(text) {
                Some(1..=MOST) => is_numbered = true,
                _ => {
                    let error = Diagnostic::new(format!("'{text}' is no parameter")).at(span);
                    return Err(error.help("write ? for each, or $1, $2 and so on"));
                }
            },
        }
        if n_asked > 0 && is_numbered {
            return Err(Diagnostic::new("? and numbered parameters in one statement")
                .at(span)
                .help("write one of both"));
        }
    }
    if n_asked == 0 {
        return Ok(Cow::Borrowed(toks));
    }
    let mut next = 0;
    let named = toks.iter().map(|tok| {
        let mut tok = tok.clone();
        if let Token::Placeholder(text) = &mut tok.token.token {
            next += 1;
            *text = format!("${next}");
        }
        tok
    });
    Ok(Cow::Owned(named.collect()))
}

/// What is wrong with parameters in a statement that nobody prepares.
pub(crate) fn refused(toks: &[Tok]) -> Option<Diagnostic> {
    written(toks).next().map(|(text, span)| no_value(text, Some(span)))
}

pub(crate) fn no_value(text: &str, span: Option<Span>) -> Diagnostic {
    let error = Diagnostic::new(format!("the parameter {text} has no value"));
    super::refuse::at(error.help("a SELECT that a client prepares has parameters, and gets their values with it"), span)
}

/// Puts values in the place of a query's parameters.
pub(crate) fn bind(
    plan: LogicalPlan,
    values: &[ScalarValue],
    place: Place<'_>,
) -> Result<LogicalPlan, Vec<Diagnostic>> {
    let n_wanted = count(place.tokens);
    if n_wanted > values.len() {
        let text = format!("${}", values.len() + 1);
        return Err(vec![no_value(&text, place.find_parameter(&text))]);
    }
    if n_wanted < values.len() {
        let given = values.len();
        return Err(vec![
            Diagnostic::new(format!("{given} values were given, and the query has {n_wanted} parameters"))
                .at(place.span()),
        ]);
    }
    if n_wanted == 0 {
        return Ok(plan);
    }
    let types = types(&plan, place)?;
    let typed = values.iter().zip(1_usize..).map(|(value, at)| typed(value, &format!("${at}"), &types, place));
    let values = ParamValues::from(typed.collect::<Result<Vec<ScalarValue>, _>>()?);
    plan.with_param_values(values).map_err(|error| place.diagnose(&error))
}

/// Text is of the type that its place wants, as a literal without a type is: clients have no other way to say some types.
fn typed(
    value: &ScalarValue,
    name: &str,
    types: &HashMap<String, DataType>,
    place: Place<'_>,
) -> Result<ScalarValue, Vec<Diagnostic>> {
    let Some(wanted) = types.get(name).filter(|wanted| value.data_type().is_string() && !wanted.is_string()) else {
        return Ok(value.clone());
    };
    value.cast_to(wanted).map_err(|_| {
        let text = value.to_string();
        let error = Diagnostic::new(format!("'{text}', given for the parameter {name}, is no {}", sql_name(wanted)));
        vec![super::refuse::at(error, place.find_parameter(name))]
    })
}

/// What the places of parameters want, where they want anything.
fn types(plan: &LogicalPlan, place: Place<'_>) -> Result<HashMap<String, DataType>, Vec<Diagnostic>> {
    let known = plan.get_parameter_types().map_err(|error| place.diagnose(&error))?;
    let wanted = known.into_iter().filter_map(|(name, wanted)| Some((name, wanted?)));
    Ok(wanted.filter(|(_, wanted)| *wanted != DataType::Null).collect())
}

/// The parameters of a query in order, with the types that their places want; text where any would do.
pub(crate) fn wanted(plan: &LogicalPlan, place: Place<'_>) -> Result<Vec<Field>, Vec<Diagnostic>> {
    let mut types = types(plan, place)?;
    let mut field = |at: usize| {
        let name = format!("${at}");
        let wanted = match types.remove(&name).unwrap_or(DataType::Utf8) {
            // The driver for JDBC puts milliseconds into whatever unit is wanted.
            DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Millisecond, zone),
            wanted => wanted,
        };
        Field::new(name, wanted, true)
    };
    Ok((1..=count(place.tokens)).map(&mut field).collect())
}

impl Place<'_> {
    pub(crate) fn find_parameter(&self, text: &str) -> Option<Span> {
        written(self.tokens).find(|(written, _)| *written == text).map(|(_, span)| span)
    }
}

fn written(toks: &[Tok]) -> impl Iterator<Item = (&str, Span)> {
    toks.iter().filter_map(|tok| match &tok.token.token {
        Token::Placeholder(text) => Some((text.as_str(), tok.span)),
        _ => None,
    })
}

fn number(text: &str) -> Option<usize> {
    text.strip_prefix('$')?.parse().ok()
}

fn count(toks: &[Tok]) -> usize {
    written(toks).filter_map(|(text, _)| number(text)).max().unwrap_or(0)
}
