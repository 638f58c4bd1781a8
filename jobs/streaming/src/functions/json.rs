//! JSON that is kept as text: `x -> 'a'`, `x ->> 'a'`, `x #> '{a,b}'`, `x #>> '{a,b}'`, `json_get…`, `json_length`,
//! `json_contains`, `json_extract`, `json_value`, `json_query`, `json_exists`, `json_extract_path[_text]`, `is_json`.
//!
//! Invariant: a null among the arguments gives null, and so does a text that is not JSON from its first character to its
//! last (`is_json` says false). Nothing of a document is copied but what is asked for.

mod elements;
mod path;

pub(crate) use elements::json_array_elements;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanBuilder, Float64Builder, Int64Array, Int64Builder, StringArray, StringBuilder,
};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DFSchema, Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility, lit,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use path::{Path, Step, find, length};
use std::sync::Arc;

/// All functions of this file.
pub(crate) fn json_functions() -> [ScalarUDF; 14] {
    use Which::{At, AtStr, Bool, Contains, Exists, Extract, Float, Get, Int, Is, Length, Query, Str, Value};
    [Get, Str, Int, Float, Bool, Length, Contains, Extract, Value, Query, Exists, At, AtStr, Is].map(function)
}

fn function(which: Which) -> ScalarUDF {
    ScalarUDF::new_from_impl(JsonFunction { which, signature: Signature::user_defined(Volatility::Immutable) })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Which {
    /// `json_get(json, key or index, …)`: what stands there, as JSON. Also `->`.
    Get,
    /// As text: a string without its quotes, anything else as JSON, and JSON's null as null. Also `->>`.
    Str,
    /// A whole number that a BIGINT holds.
    Int,
    /// Any number.
    Float,
    Bool,
    /// Members of an object or elements of an array.
    Length,
    /// Whether there is something, be it JSON's null.
    Contains,
    /// `json_extract(json, '$.a[0]')`: as [`Which::Get`], by a path.
    Extract,
    /// `json_value(json, '$.a[0]')`: as [`Which::Str`], if it is neither an object nor an array.
    Value,
    /// `json_query(json, '$.a[0]')`: as [`Which::Get`], if it is an object or an array.
    Query,
    /// `json_exists(json, '$.a[0]')`: whether there is something; of a text that is no JSON there is nothing.
    Exists,
    /// `json_extract_path(json, step, …)`: as [`Which::Get`], with numbers as text. Also `#>`.
    At,
    /// `json_extract_path_text(json, step, …)`: the same as [`Which::Str`]. Also `#>>`.
    AtStr,
    Is,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct JsonFunction {
    which: Which,
    signature: Signature,
}

impl JsonFunction {
    fn type_of_answer(&self) -> DataType {
        match self.which {
            Which::Get | Which::Str | Which::Extract | Which::Value | Which::Query | Which::At | Which::AtStr => {
                DataType::Utf8
            }
            Which::Int | Which::Length => DataType::Int64,
            Which::Float => DataType::Float64,
            Which::Bool | Which::Contains | Which::Exists | Which::Is => DataType::Boolean,
        }
    }

    /// Whether the second argument is a path.
    fn takes_path(&self) -> bool {
        matches!(self.which, Which::Extract | Which::Value | Which::Query | Which::Exists)
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

impl ScalarUDFImpl for JsonFunction {
    fn name(&self) -> &str {
        match self.which {
            Which::Get => "json_get",
            Which::Str => "json_get_str",
            Which::Int => "json_get_int",
            Which::Float => "json_get_float",
            Which::Bool => "json_get_bool",
            Which::Length => "json_length",
            Which::Contains => "json_contains",
            Which::Extract => "json_extract",
            Which::Value => "json_value",
            Which::Query => "json_query",
            Which::Exists => "json_exists",
            Which::At => "json_extract_path",
            Which::AtStr => "json_extract_path_text",
            Which::Is => "is_json",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.name();
        let (form, enough) = match self.which {
            Which::Is => ("json", given.len() == 1),
            _ if self.takes_path() => ("json, path", given.len() == 2),
            Which::Length | Which::At | Which::AtStr => ("json, key or index, …", !given.is_empty()),
            _ => ("json, key or index, …", given.len() > 1),
        };
        if !enough {
            return plan_err!("{name}({form}) does not take {} arguments", given.len());
        }
        let mut wanted = Vec::with_capacity(given.len());
        for (at, data_type) in given.iter().enumerate() {
            wanted.push(match data_type {
                text if is_text(text) || text.is_null() => DataType::Utf8,
                number if at > 0 && number.is_integer() && matches!(self.which, Which::At | Which::AtStr) => {
                    DataType::Utf8
                }
                number if at > 0 && number.is_integer() && !self.takes_path() => DataType::Int64,
                other if at == 0 => return plan_err!("{name}({form}) takes JSON as VARCHAR, not {other}"),
                other => return plan_err!("{name}({form}) does not take {other} as argument {}", at + 1),
            });
        }
        Ok(wanted)
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.type_of_answer())
    }

    /// A path that is written down is wrong at once, not when the first row comes.
    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        if let (true, Some(Some(ScalarValue::Utf8(Some(path))))) = (self.takes_path(), args.scalar_arguments.get(1))
            && let Err(why) = Path::parse(path)
        {
            return plan_err!("{}('{path}') has no path: {why}", self.name());
        }
        Ok(Arc::new(Field::new(self.name(), self.type_of_answer(), true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let n_rows = args.number_rows;
        let Some((json, steps)) = args.args.split_first() else {
            return exec_err!("{} takes JSON as its first argument", self.name());
        };
        let json = json.to_array(n_rows)?;
        let json = json.as_string::<i32>();
        let answer = if self.takes_path() {
            let [path] = steps else { return exec_err!("{} takes JSON and a path", self.name()) };
            self.extract(json, &Argument::of(path)?)?
        } else {
            let steps = steps.iter().map(Argument::of).collect::<Result<Vec<_>>>()?;
            self.walk(json, &steps)?
        };
        Ok(ColumnarValue::Array(answer))
    }
}

impl JsonFunction {
    fn walk(&self, json: &StringArray, arguments: &[Argument]) -> Result<ArrayRef> {
        let mut answers = Answers::new(self.which, json.len());
        let mut steps: Vec<Step<'_>> = Vec::with_capacity(arguments.len());
        for row in 0..json.len() {
            steps.clear();
            let step = |step| match (self.which, step) {
                (Which::At | Which::AtStr, Step::Key(step)) => Step::Either(step, step.parse().ok()),
                (_, step) => step,
            };
            steps.extend(arguments.iter().filter_map(|argument| argument.step(row).map(step)));
            match json.is_valid(row) && steps.len() == arguments.len() {
                true => answers.push(find(json.value(row), &steps)),
                false => answers.push_null(),
            }
        }
        Ok(answers.finish())
    }

    fn extract(&self, json: &StringArray, paths: &Argument) -> Result<ArrayRef> {
        let mut answers = Answers::new(self.which, json.len());
        // Mostly one for all rows.
        let mut known: Option<(String, Path)> = None;
        for row in 0..json.len() {
            let (true, Some(Step::Key(written))) = (json.is_valid(row), paths.step(row)) else {
                answers.push_null();
                continue;
            };
            if known.as_ref().is_none_or(|(path, _)| path != written) {
                match Path::parse(written) {
                    Ok(path) => known = Some((written.to_owned(), path)),
                    Err(why) => return exec_err!("{} has no path '{written}': {why}", self.name()),
                }
            }
            if let Some((_, path)) = &known {
                let found = path.find(json.value(row));
                let nested = |json: &&str| json.starts_with(['{', '[']);
                answers.push(match self.which {
                    Which::Value => found.map(|there| there.filter(|json| !nested(json))),
                    Which::Query => found.map(|there| there.filter(nested)),
                    Which::Exists => Some(found.flatten()),
                    _ => found,
                });
            }
        }
        Ok(answers.finish())
    }
}

/// A key or an index, mostly the same for all rows.
enum Argument {
    Keys { texts: StringArray, same: bool },
    Indices { numbers: Int64Array, same: bool },
}

impl Argument {
    fn of(value: &ColumnarValue) -> Result<Self> {
        let (array, same) = match value {
            ColumnarValue::Scalar(scalar) => (scalar.to_array()?, true),
            ColumnarValue::Array(array) => (Arc::clone(array), false),
        };
        Ok(match array.data_type() {
            DataType::Int64 => Self::Indices { numbers: array.as_primitive().clone(), same },
            DataType::Utf8 => Self::Keys { texts: array.as_string::<i32>().clone(), same },
            other => return exec_err!("a step into JSON is a VARCHAR or a BIGINT, not {other}"),
        })
    }

    fn step(&self, row: usize) -> Option<Step<'_>> {
        match self {
            Self::Keys { texts, same } => {
                let row = if *same { 0 } else { row };
                texts.is_valid(row).then(|| Step::Key(texts.value(row)))
            }
            Self::Indices { numbers, same } => {
                let row = if *same { 0 } else { row };
                numbers.is_valid(row).then(|| Step::Index(numbers.value(row)))
            }
        }
    }
}

/// The answers as they are found.
enum Answers {
    Json(StringBuilder),
    Str(StringBuilder),
    Int(Int64Builder),
    Float(Float64Builder),
    Bool(BooleanBuilder),
    Length(Int64Builder),
    Contains(BooleanBuilder),
    Is(BooleanBuilder),
}

/// Bytes of an answer that is text, to begin with.
const TEXT: usize = 16;

impl Answers {
    fn new(which: Which, n_rows: usize) -> Self {
        let text = || StringBuilder::with_capacity(n_rows, n_rows * TEXT);
        match which {
            Which::Get | Which::Extract | Which::Query | Which::At => Self::Json(text()),
            Which::Str | Which::Value | Which::AtStr => Self::Str(text()),
            Which::Int => Self::Int(Int64Builder::with_capacity(n_rows)),
            Which::Float => Self::Float(Float64Builder::with_capacity(n_rows)),
            Which::Bool => Self::Bool(BooleanBuilder::with_capacity(n_rows)),
            Which::Length => Self::Length(Int64Builder::with_capacity(n_rows)),
            Which::Contains | Which::Exists => Self::Contains(BooleanBuilder::with_capacity(n_rows)),
            Which::Is => Self::Is(BooleanBuilder::with_capacity(n_rows)),
        }
    }

    /// `found`: what stands where was asked, if the text is JSON at all and there is something.
    fn push(&mut self, found: Option<Option<&str>>) {
        let there = found.flatten();
        match self {
            Self::Json(to) => to.append_option(there),
            Self::Str(to) => match there.map(|json| (json, json.as_bytes().first())) {
                None | Some(("null", _)) => to.append_null(),
                Some((json, Some(b'"'))) => match json.contains('\\') {
                    false => to.append_value(json.trim_matches('"')),
                    true => to.append_option(serde_json::from_str::<String>(json).ok()),
                },
                Some((json, _)) => to.append_value(json),
            },
            Self::Int(to) => to.append_option(there.and_then(|json| json.parse().ok())),
            // What begins so is a number as JSON writes it; Rust knows others too.
            Self::Float(to) => to.append_option(
                there
                    .filter(|json| json.starts_with(|c: char| c == '-' || c.is_ascii_digit()))
                    .and_then(|json| json.parse().ok()),
            ),
            Self::Bool(to) => to.append_option(there.and_then(|json| json.parse().ok())),
            Self::Length(to) => to.append_option(there.and_then(length)),
            Self::Contains(to) => to.append_option(found.map(|there| there.is_some())),
            Self::Is(to) => to.append_value(found.is_some()),
        }
    }

    fn push_null(&mut self) {
        match self {
            Self::Json(to) | Self::Str(to) => to.append_null(),
            Self::Int(to) | Self::Length(to) => to.append_null(),
            Self::Float(to) => to.append_null(),
            Self::Bool(to) | Self::Contains(to) | Self::Is(to) => to.append_null(),
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Json(mut of) | Self::Str(mut of) => Arc::new(of.finish()),
            Self::Int(mut of) | Self::Length(mut of) => Arc::new(of.finish()),
            Self::Float(mut of) => Arc::new(of.finish()),
            Self::Bool(mut of) | Self::Contains(mut of) | Self::Is(mut of) => Arc::new(of.finish()),
        }
    }
}

/// `->`, `->>`, `#>` and `#>>` where the left side is text. Steps one after the other are one call, which reads the
/// document once.
#[derive(Debug)]
pub(crate) struct JsonOperators;

impl ExprPlanner for JsonOperators {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let which = match expr.op {
            BinaryOperator::Arrow => Which::Get,
            BinaryOperator::LongArrow => Which::Str,
            BinaryOperator::HashArrow => Which::At,
            BinaryOperator::HashLongArrow => Which::AtStr,
            _ => return Ok(PlannerResult::Original(expr)),
        };
        if !expr.left.get_type(schema).is_ok_and(|left| is_text(&left)) {
            return Ok(PlannerResult::Original(expr));
        }
        let by_path = matches!(which, Which::At | Which::AtStr);
        let before = function(if by_path { Which::At } else { Which::Get });
        let mut args = match expr.left {
            Expr::ScalarFunction(ScalarFunction { func, args }) if func.name() == before.name() => args,
            left => vec![left],
        };
        if by_path {
            args.extend(steps_of(expr.right)?);
        } else {
            args.push(expr.right);
        }
        Ok(PlannerResult::Planned(function(which).call(args)))
    }
}

/// The steps of a path as Postgres has it: `'{a,0,b}'`, or an array of texts.
fn steps_of(path: Expr) -> Result<Vec<Expr>> {
    match path {
        Expr::ScalarFunction(ScalarFunction { func, args }) if func.name() == "make_array" => Ok(args),
        Expr::Literal(ScalarValue::Utf8(Some(written)), _) => {
            let Some(inner) = written.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
                return plan_err!("'{written}' is no path: it is written '{{a,0,b}}'");
            };
            let steps = inner.split(',').map(|step| step.trim().trim_matches('"'));
            Ok(steps.filter(|_| !inner.trim().is_empty()).map(lit).collect())
        }
        other => plan_err!("{other} is no path into JSON: it is written '{{a,0,b}}', or as an array of texts"),
    }
}

#[cfg(test)]
mod tests;
