//! The calls of windows in FROM: their arguments, by place or by name.

use super::{KINDS, WINDOW_COLUMNS, WindowNode};
use crate::dataflow::Window;
use crate::sql::dialect::TABLE_ARGUMENT;
use crate::sql::errors::external;
use crate::sql::text::{Positions, Span};
use crate::sql::time::{why_no_time, written};
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, Spanned, TableFactor,
};
use jobs::Diagnostic;
use std::sync::Arc;

/// Plans the calls.
#[derive(Debug)]
pub(crate) struct WindowPlanner {
    pub(crate) positions: Arc<Positions>,
}

impl RelationPlanner for WindowPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let place = self.place(relation.span());
        let (name, args, alias) = match relation {
            TableFactor::TableFunction { expr: SqlExpr::Function(function), alias } => match function.args {
                FunctionArguments::List(list) => (function.name, list.args, alias),
                _ => (function.name, Vec::new(), alias),
            },
            TableFactor::Table { name, args: Some(args), alias, .. }
                if KINDS.contains(&name.to_string().to_lowercase().as_str()) =>
            {
                (name, args.args, alias)
            }
            TableFactor::Table { version, sample, with_hints, partitions, index_hints, with_ordinality, .. }
                if version.is_some()
                    || sample.is_some()
                    || with_ordinality
                    || !(with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty()) =>
            {
                // The planner would pass over them.
                let what = if version.is_some() {
                    "FOR SYSTEM_TIME AS OF"
                } else if sample.is_some() {
                    "TABLESAMPLE"
                } else {
                    "a hint behind a table's name"
                };
                return Err(external(at(Diagnostic::new(format!("{what} is not supported yet")), place)));
            }
            other => return Ok(RelationPlanning::Original(Box::new(other))),
        };
        let plan = self.window(&name, &args, place, context)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

impl WindowPlanner {
    fn place(&self, span: datafusion::sql::sqlparser::tokenizer::Span) -> Option<Span> {
        (span.start.line > 0).then(|| self.positions.span(span.start, span.end))
    }

    fn window(
        &self,
        name: &ObjectName,
        args: &[FunctionArg],
        place: Option<Span>,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<LogicalPlan> {
        let kind = name.to_string().to_lowercase();
        let name_place = self.place(name.span()).or(place);
        let refuse = |message: String| Err(external(at(Diagnostic::new(message), name_place)));
        let Some(form) = Form::of(&kind) else {
            let error = Diagnostic::new(format!("unknown table function '{name}'")).suggest(&kind, KINDS);
            return Err(external(at(error, name_place)));
        };
        let arguments = self.arguments(form, args, name_place)?;
        let (table, time) = (call_of(arguments.table, TABLE_ARGUMENT), call_of(arguments.time, "descriptor"));
        let Some([table, partition @ ..]) = table.as_deref() else {
            return refuse(format!("the first argument of {} is TABLE and a table's name: {}", form.name, form.text));
        };
        let Some([time]) = time.as_deref() else {
            return refuse(format!("the second argument of {} is DESCRIPTOR(column): {}", form.name, form.text));
        };
        if let (Some(first), true) = (partition.first(), kind != "session") {
            let error = Diagnostic::new(format!("{} has no partitions: its windows are alike for all rows", form.name))
                .help("leave PARTITION BY out, and group by the column");
            return Err(external(at(error, self.place(first.span))));
        }
        let input = context.plan(table_factor((*table).clone()))?;
        let time = self.time_column(&input, table, time)?;
        let partition = partition.iter().map(|name| self.column(&input, name)).collect::<Result<Vec<Column>>>()?;
        let mut sized = |expr: &SqlExpr, size: fn(&Expr) -> std::result::Result<i64, Diagnostic>| {
            let place = self.place(expr.span()).or(name_place);
            let planned = context.sql_to_expr(expr.clone(), &DFSchema::empty())?;
            size(&planned).map_err(|error| external(at(error, place)))
        };
        let widths = arguments.widths.iter().map(|expr| sized(expr, interval_us)).collect::<Result<Vec<i64>>>()?;
        let offset_us = arguments.offset.map(|expr| sized(expr, offset_us)).transpose()?.unwrap_or(0);
        let window = window_of(&kind, &widths, offset_us).map_err(|error| external(at(error, name_place)))?;
        shadowing(WindowNode::try_new(input, window, time, partition)?)
    }

    /// What stands for each parameter.
    fn arguments<'e>(&self, form: &Form, args: &'e [FunctionArg], place: Option<Span>) -> Result<Arguments<'e>> {
        let n_parameters = form.parameters.len();
        let mut given: Vec<Option<&SqlExpr>> = vec![None; n_parameters + 1];
        let wrong = |error: Diagnostic, place: Option<Span>| Err(external(at(error, place)));
        let takes = || match form.takes_offset {
            true => format!("{} takes {n_parameters} arguments, and perhaps an offset: {}", form.name, form.text),
            false => format!("{} takes {n_parameters} arguments: {}", form.name, form.text),
        };
        let names = || form.parameters.iter().copied().chain(form.takes_offset.then_some(OFFSET));
        for (at, arg) in args.iter().enumerate() {
            let (parameter, expr) = match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => (at, expr),
                FunctionArg::Named { name, arg: FunctionArgExpr::Expr(expr), .. } => {
                    let wanted = name.value.to_lowercase();
                    let Some(parameter) = names().position(|parameter| *parameter == wanted) else {
                        let error = Diagnostic::new(format!("{} has no argument '{}'", form.name, name.value));
                        return wrong(error.suggest(&wanted, names()), self.place(name.span).or(place));
                    };
                    (parameter, expr)
                }
                _ => return wrong(Diagnostic::new(takes()), place),
            };
            if matches!(arg, FunctionArg::Unnamed(_)) != matches!(args[0], FunctionArg::Unnamed(_)) {
                let error = Diagnostic::new(format!("{} takes its arguments by place or by name, not both", form.name));
                return wrong(error, place);
            }
            match given.get_mut(parameter).filter(|_| parameter < n_parameters || form.takes_offset) {
                None => return wrong(Diagnostic::new(takes()), place),
                Some(Some(_)) => {
                    let name = names().nth(parameter).unwrap_or_default().to_uppercase();
                    return wrong(Diagnostic::new(format!("{} is given {name} twice", form.name)), place);
                }
                Some(free) => *free = Some(expr),
            }
        }
        let offset = given.pop().flatten();
        match given.into_iter().collect::<Option<Vec<&SqlExpr>>>().as_deref() {
            Some([table, time, widths @ ..]) => Ok(Arguments { table, time, widths: widths.to_vec(), offset }),
            _ => wrong(Diagnostic::new(takes()), place),
        }
    }

    fn position(&self, input: &LogicalPlan, column: &Ident) -> Result<usize> {
        let name = column.value.to_lowercase();
        let found = input.schema().iter().position(|(_, field)| *field.name() == name);
        found.ok_or_else(|| {
            let names: Vec<&str> = input.schema().fields().iter().map(|field| field.name().as_str()).collect();
            let error = Diagnostic::new(format!("unknown column '{}'", column.value)).suggest(&column.value, names);
            external(at(error, self.place(column.span)))
        })
    }

    fn column(&self, input: &LogicalPlan, column: &Ident) -> Result<Column> {
        Ok(Column::from(input.schema().qualified_field(self.position(input, column)?)))
    }

    /// The column of a window's time, and how far before the watermark it may be.
    fn time_column(&self, input: &LogicalPlan, table: &Ident, time: &Ident) -> Result<(Column, i64)> {
        let place = self.place(time.span);
        let index = self.position(input, time)?;
        if let Some(known) = written(input, index) {
            return Ok((Column::from(input.schema().qualified_field(index)), known.behind_us()));
        }
        let (name, table) = (&time.value, &table.value);
        let error = match why_no_time(input, index).reason() {
            Some((what, help)) => Diagnostic::new(format!("'{name}' of '{table}' {what}")).help(help),
            None => Diagnostic::new(format!("'{name}' is not the event time of '{table}'"))
                .help(format!("declare WATERMARK FOR {name} AS … on the table it comes from")),
        };
        Err(external(at(error, place)))
    }
}

/// What a call looks like.
struct Form {
    name: &'static str,
    /// By name.
    parameters: &'static [&'static str],
    takes_offset: bool,
    text: &'static str,
}

/// The parameter that may be left out.
const OFFSET: &str = "offset";

impl Form {
    fn of(kind: &str) -> Option<&'static Self> {
        const TUMBLE: Form = Form {
            name: "TUMBLE",
            parameters: &["data", "timecol", "size"],
            takes_offset: true,
            text: "TUMBLE(TABLE t, DESCRIPTOR(time), width)",
        };
        const HOP: Form = Form {
            name: "HOP",
            parameters: &["data", "timecol", "slide", "size"],
            takes_offset: true,
            text: "HOP(TABLE t, DESCRIPTOR(time), slide, width)",
        };
        const CUMULATE: Form = Form {
            name: "CUMULATE",
            parameters: &["data", "timecol", "step", "size"],
            takes_offset: true,
            text: "CUMULATE(TABLE t, DESCRIPTOR(time), step, width)",
        };
        const SESSION: Form = Form {
            name: "SESSION",
            parameters: &["data", "timecol", "gap"],
            takes_offset: false,
            text: "SESSION(TABLE t PARTITION BY key, DESCRIPTOR(time), gap)",
        };
        match kind {
            "tumble" => Some(&TUMBLE),
            "hop" => Some(&HOP),
            "cumulate" => Some(&CUMULATE),
            "session" => Some(&SESSION),
            _ => None,
        }
    }
}

struct Arguments<'e> {
    table: &'e SqlExpr,
    time: &'e SqlExpr,
    widths: Vec<&'e SqlExpr>,
    offset: Option<&'e SqlExpr>,
}

/// The columns of the window take the place of those of the same names that the input has.
fn shadowing(node: WindowNode) -> Result<LogicalPlan> {
    if node.names == WINDOW_COLUMNS {
        return Ok(node.into_plan());
    }
    let mut exprs: Vec<Expr> = Vec::new();
    let kept = node.input.schema().iter().filter(|(_, field)| !WINDOW_COLUMNS.contains(&field.name().as_str()));
    exprs.extend(kept.map(|(qualifier, field)| Expr::Column(Column::new(qualifier.cloned(), field.name()))));
    let qualifier = node.time.relation.clone();
    exprs.extend(node.names.into_iter().zip(WINDOW_COLUMNS).map(|(name, shown)| {
        Expr::Column(Column::new(qualifier.clone(), name)).alias_qualified(qualifier.clone(), shown)
    }));
    LogicalPlanBuilder::from(node.into_plan()).project(exprs)?.build()
}

/// How many sizes a window of this kind has.
pub(crate) fn widths_of(kind: &str) -> usize {
    if kind == "hop" || kind == "cumulate" { 2 } else { 1 }
}

/// The window that a call of this kind with these widths means.
pub(crate) fn window_of(kind: &str, widths: &[i64], offset_us: i64) -> std::result::Result<Window, Diagnostic> {
    match (kind, widths) {
        ("tumble", [width_us]) => {
            Ok(Window::Tumble { width_us: *width_us, offset_us: offset_us.rem_euclid(*width_us) })
        }
        ("hop", [slide_us, width_us]) if slide_us == width_us => window_of("tumble", &[*width_us], offset_us),
        ("hop", [slide_us, width_us]) => {
            Ok(Window::Hop { width_us: *width_us, slide_us: *slide_us, offset_us: offset_us.rem_euclid(*slide_us) })
        }
        ("cumulate", [step_us, width_us]) if width_us % step_us != 0 => {
            Err(Diagnostic::new("the width of CUMULATE is a whole number of its steps"))
        }
        ("cumulate", [step_us, width_us]) => {
            Ok(Window::Cumulate { width_us: *width_us, step_us: *step_us, offset_us: offset_us.rem_euclid(*width_us) })
        }
        ("session", [gap_us]) => Ok(Window::Session { gap_us: *gap_us }),
        ("tumble", _) => Err(Diagnostic::new("tumble takes one argument, and perhaps an offset: tumble(width)")),
        ("session", _) => Err(Diagnostic::new("session takes one argument: session(gap)")),
        ("cumulate", _) => {
            Err(Diagnostic::new("cumulate takes two arguments, and perhaps an offset: cumulate(step, width)"))
        }
        _ => Err(Diagnostic::new("hop takes two arguments, and perhaps an offset: hop(slide, width)")),
    }
}

fn at(error: Diagnostic, place: Option<Span>) -> Diagnostic {
    Diagnostic { span: place, ..error }
}

fn unnamed(arg: &FunctionArg) -> Option<&SqlExpr> {
    match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

/// The names in a call `function(name, …)`.
fn call_of<'e>(expr: &'e SqlExpr, function: &str) -> Option<Vec<&'e Ident>> {
    let SqlExpr::Function(call) = expr else { return None };
    let FunctionArguments::List(list) = &call.args else { return None };
    let name = |arg| match unnamed(arg) {
        Some(SqlExpr::Identifier(name)) => Some(name),
        _ => None,
    };
    let same = call.name.to_string().eq_ignore_ascii_case(function);
    if same { list.args.iter().map(name).collect() } else { None }
}

fn table_factor(name: Ident) -> TableFactor {
    TableFactor::Table {
        name: ObjectName::from(vec![name]),
        alias: None,
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    }
}

/// Microseconds of a constant that is an interval of a fixed length, of either sign.
pub(crate) fn fixed_interval_us(expr: &Expr) -> Option<i64> {
    let (days, nanos) = match expr {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) if interval.months == 0 => {
            (i64::from(interval.days), interval.nanoseconds)
        }
        Expr::Literal(ScalarValue::IntervalDayTime(Some(interval)), _) => {
            (i64::from(interval.days), i64::from(interval.milliseconds) * 1_000_000)
        }
        _ => return None,
    };
    (nanos % 1000 == 0).then_some(days * 86_400_000_000 + nanos / 1000)
}

/// The width of a window: a constant interval of a fixed, positive length.
pub(crate) fn interval_us(expr: &Expr) -> std::result::Result<i64, Diagnostic> {
    match (fixed_interval_us(expr), expr) {
        (Some(us), _) if us > 0 && us % 1000 == 0 => Ok(us),
        (
            None,
            Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(_)) | ScalarValue::IntervalYearMonth(Some(_)), _),
        ) => Err(Diagnostic::new("months and years have no fixed length").help("write days instead")),
        (Some(_), _) => Err(Diagnostic::new("a window's width is a positive whole number of milliseconds")),
        (None, _) => Err(Diagnostic::new("a window's width is a constant, for example INTERVAL '10 seconds'")),
    }
}

/// How far from the epoch windows begin: a constant interval of a fixed length, of either sign.
pub(crate) fn offset_us(expr: &Expr) -> std::result::Result<i64, Diagnostic> {
    let wrong = "the offset of a window is a constant whole number of milliseconds, for example INTERVAL '8 hours'";
    fixed_interval_us(expr).filter(|us| us % 1000 == 0).ok_or_else(|| Diagnostic::new(wrong))
}
