//! Times as text by patterns: `to_char`, `date_format`, `to_timestamp` and `to_date` are DataFusion's, whose patterns have a
//! `%` before each field, and take those of Postgres (`YYYY-MM-DD HH24:MI:SS`) and Flink (`yyyy-MM-dd HH:mm:ss`) too.
//!
//! Invariant: a pattern with a `%` means what it means to DataFusion. In another one every letter is a field or stands in
//! quotes; one that is neither is an error and not a letter of the result.

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::functions::datetime;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use std::sync::Arc;

pub(crate) fn pattern_functions(options: &ConfigOptions) -> [ScalarUDF; 4] {
    let of = |name, stands_for: Arc<ScalarUDF>, reads| {
        let signature = stands_for.signature().clone();
        ScalarUDF::new_from_impl(Patterned { name, stands_for, reads, signature })
    };
    [
        of("to_char", datetime::to_char(), Reads::Postgres),
        of("date_format", datetime::to_char(), Reads::Flink),
        of("to_timestamp", datetime::to_timestamp(options), Reads::Either),
        of("to_date", datetime::to_date(), Reads::Either),
    ]
}

/// Whose patterns a function takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Reads {
    Postgres,
    Flink,
    /// Postgres' where it has one of its fields in capitals.
    Either,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Patterned {
    name: &'static str,
    stands_for: Arc<ScalarUDF>,
    reads: Reads,
    signature: Signature,
}

impl ScalarUDFImpl for Patterned {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        self.stands_for.coerce_types(given)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.stands_for.return_type(types)
    }

    /// A pattern that is written down is wrong at once, not when the first row comes.
    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        for pattern in args.scalar_arguments.iter().skip(1).flatten() {
            if let Some(Some(pattern)) = pattern.try_as_str() {
                self.translated(pattern)?;
            }
        }
        self.stands_for.return_field_from_args(args)
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        for pattern in args.args.iter_mut().skip(1) {
            *pattern = match &*pattern {
                ColumnarValue::Scalar(scalar) => match scalar.try_as_str() {
                    Some(Some(written)) => ColumnarValue::Scalar(ScalarValue::from(self.translated(written)?)),
                    _ => continue,
                },
                ColumnarValue::Array(patterns) => match patterns.as_string_opt::<i32>() {
                    Some(patterns) => ColumnarValue::Array(self.all_translated(patterns)?),
                    None => continue,
                },
            };
        }
        self.stands_for.invoke_with_args(args)
    }
}

impl Patterned {
    fn translated(&self, written: &str) -> Result<String> {
        if written.contains('%') {
            return Ok(written.to_string());
        }
        let postgres = ["YY", "DD", "HH24", "HH12", "MI", "SS", "MON"];
        let found = match self.reads {
            Reads::Postgres => of_postgres(written),
            Reads::Either if postgres.iter().any(|field| written.contains(field)) => of_postgres(written),
            Reads::Flink | Reads::Either => of_flink(written),
        };
        found.or_else(|rest| {
            plan_err!(
                "{}: '{rest}' in the pattern '{written}' is no field of a time; text stands in quotes, and every pattern \
                 may be written with %, as in '%Y-%m-%d %H:%M:%S'",
                self.name
            )
        })
    }

    fn all_translated(&self, patterns: &StringArray) -> Result<ArrayRef> {
        let translated = |pattern: Option<&str>| pattern.map(|written| self.translated(written)).transpose();
        Ok(Arc::new(patterns.iter().map(translated).collect::<Result<StringArray>>()?))
    }
}

/// Fields as Postgres has them, longer ones before those that they begin with.
const POSTGRES: [(&str, &str); 19] = [
    ("YYYY", "%Y"),
    ("YY", "%y"),
    ("MONTH", "%B"),
    ("MON", "%b"),
    ("MM", "%m"),
    ("DDD", "%j"),
    ("DD", "%d"),
    ("DAY", "%A"),
    ("DY", "%a"),
    ("HH24", "%H"),
    ("HH12", "%I"),
    ("HH", "%I"),
    ("MI", "%M"),
    ("SS", "%S"),
    ("MS", "%3f"),
    ("US", "%6f"),
    ("AM", "%p"),
    ("PM", "%p"),
    ("IW", "%V"),
];

/// Gives what is no field, if there is something.
fn of_postgres(written: &str) -> Result<String, String> {
    let mut pattern = String::new();
    let mut rest = written;
    while let Some(next) = rest.chars().next() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (text, after) = quoted.split_once('"').ok_or_else(|| rest.to_string())?;
            pattern.push_str(text);
            rest = after;
        } else if next.is_alphabetic() {
            let is =
                |field: &&(&str, &str)| rest.get(..field.0.len()).is_some_and(|at| at.eq_ignore_ascii_case(field.0));
            let (field, stands_for) = POSTGRES.iter().find(is).ok_or_else(|| next.to_string())?;
            pattern.push_str(stands_for);
            rest = &rest[field.len()..];
        } else {
            pattern.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    Ok(pattern)
}

/// Gives what is no field, if there is something.
fn of_flink(written: &str) -> Result<String, String> {
    let mut pattern = String::new();
    let mut rest = written;
    while let Some(next) = rest.chars().next() {
        if let Some(quoted) = rest.strip_prefix('\'') {
            let (text, after) = quoted.split_once('\'').ok_or_else(|| rest.to_string())?;
            // Two quotes are one.
            pattern.push_str(if text.is_empty() { "'" } else { text });
            rest = after;
            continue;
        }
        let n = rest.chars().take_while(|other| *other == next).count();
        let field = match (next, n) {
            ('y' | 'u', 1 | 4) => "%Y",
            ('y' | 'u', 2) => "%y",
            ('M' | 'L', 1) => "%-m",
            ('M' | 'L', 2) => "%m",
            ('M' | 'L', 3) => "%b",
            ('M' | 'L', 4) => "%B",
            ('d', 1) => "%-d",
            ('d', 2) => "%d",
            ('D', 3) => "%j",
            ('H', 1) => "%-H",
            ('H', 2) => "%H",
            ('h', 1) => "%-I",
            ('h', 2) => "%I",
            ('m', 1) => "%-M",
            ('m', 2) => "%M",
            ('s', 1) => "%-S",
            ('s', 2) => "%S",
            ('S', 3) => "%3f",
            ('S', 6) => "%6f",
            ('S', 9) => "%9f",
            ('a', 1) => "%p",
            ('E', 1..=3) => "%a",
            ('E', 4) => "%A",
            (letter, _) if letter.is_alphabetic() => return Err(rest[..n * next.len_utf8()].to_string()),
            _ => {
                pattern.extend(std::iter::repeat_n(next, n));
                rest = &rest[n * next.len_utf8()..];
                continue;
            }
        };
        pattern.push_str(field);
        rest = &rest[n..];
    }
    Ok(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_others_are_those_with_a_percent_sign() {
        let postgres = |written: &str| of_postgres(written);
        assert_eq!(postgres("YYYY-MM-DD HH24:MI:SS.MS").as_deref(), Ok("%Y-%m-%d %H:%M:%S.%3f"));
        assert_eq!(postgres("Mon dd, yyyy \"at\" hh12 pm").as_deref(), Ok("%b %d, %Y at %I %p"));
        assert_eq!(postgres("YYYY x").unwrap_err(), "x");
        assert_eq!(postgres("\"open").unwrap_err(), "\"open");
        assert_eq!(of_flink("yyyy-MM-dd'T'HH:mm:ss.SSS").as_deref(), Ok("%Y-%m-%dT%H:%M:%S.%3f"));
        assert_eq!(of_flink("EEE, d MMM yy ''h a''").as_deref(), Ok("%a, %-d %b %y '%-I %p'"));
        assert_eq!(of_flink("yyyy ww").unwrap_err(), "ww");
        assert_eq!(of_flink("żż").unwrap_err(), "żż");
    }
}
