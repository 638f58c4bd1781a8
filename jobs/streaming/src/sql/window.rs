//! Event-time windows in FROM: `TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10 seconds'))`, and `HOP`, `CUMULATE` and
//! `SESSION` alike.
//!
//! The call becomes a [`WindowNode`] above the table's plan, which adds window_start, window_end and window_time. The
//! streaming planner turns it, together with the aggregation above it, into one operator; the batch planner into a
//! projection.

use super::dialect::TABLE_ARGUMENT;
use super::errors::external;
use super::text::{Positions, Span};
use super::time::is_event_time;
use super::types::event_time;
use crate::dataflow::Window;
use arrow::datatypes::Field;
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result, ScalarValue, TableReference};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, Spanned, TableFactor,
};
use jobs::Diagnostic;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The columns that a window adds, in this order.
pub(crate) const WINDOW_COLUMNS: [&str; 3] = ["window_start", "window_end", "window_time"];

/// Rows of `input`, once for each window in which their event time lies.
#[derive(Clone, Debug)]
pub(crate) struct WindowNode {
    pub(crate) input: LogicalPlan,
    pub(crate) window: Window,
    pub(crate) time: Column,
    /// Of sessions: whose rows are apart from others'.
    pub(crate) partition: Vec<Column>,
    schema: DFSchemaRef,
}

impl WindowNode {
    pub(crate) fn try_new(input: LogicalPlan, window: Window, time: Column, partition: Vec<Column>) -> Result<Self> {
        let (qualifier, _) = input.schema().qualified_field_from_column(&time)?;
        let qualifier = qualifier.cloned();
        let mut fields: Vec<(Option<TableReference>, Arc<Field>)> =
            input.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field))).collect();
        for name in WINDOW_COLUMNS {
            fields.push((qualifier.clone(), Arc::new(Field::new(name, event_time(), true))));
        }
        let schema = Arc::new(DFSchema::new_with_metadata(fields, HashMap::new())?);
        Ok(Self { input, window, time, partition, schema })
    }

    pub(crate) fn into_plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(self) })
    }

    /// The window node that `plan` is, if it is one.
    pub(crate) fn of(plan: &LogicalPlan) -> Option<&Self> {
        match plan {
            LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
            _ => None,
        }
    }
}

pub(crate) fn describe(window: Window) -> String {
    let text = |us: i64| {
        if us % 1_000_000 == 0 { format!("{}s", us / 1_000_000) } else { format!("{}ms", us as f64 / 1000.0) }
    };
    match window {
        Window::Tumble { width_us } => format!("tumble {}", text(width_us)),
        Window::Hop { width_us, slide_us } => format!("hop {} every {}", text(width_us), text(slide_us)),
        Window::Cumulate { width_us, step_us } => format!("cumulate {} by {}", text(width_us), text(step_us)),
        Window::Session { gap_us } => format!("session {}", text(gap_us)),
    }
}

/// For comparing: the kind and its sizes.
fn sizes(window: Window) -> (u8, i64, i64) {
    match window {
        Window::Tumble { width_us } => (0, width_us, width_us),
        Window::Hop { width_us, slide_us } => (1, width_us, slide_us),
        Window::Cumulate { width_us, step_us } => (2, width_us, step_us),
        Window::Session { gap_us } => (3, gap_us, gap_us),
    }
}

impl PartialEq for WindowNode {
    fn eq(&self, other: &Self) -> bool {
        self.input == other.input
            && self.window == other.window
            && self.time == other.time
            && self.partition == other.partition
    }
}

impl Eq for WindowNode {}

impl PartialOrd for WindowNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.input.partial_cmp(&other.input) {
            Some(Ordering::Equal) => {
                let of = |node: &Self| (sizes(node.window), node.time.clone(), node.partition.clone());
                of(self).partial_cmp(&of(other))
            }
            order => order,
        }
    }
}

impl Hash for WindowNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
        sizes(self.window).hash(state);
        self.time.hash(state);
        self.partition.hash(state);
    }
}

impl UserDefinedLogicalNodeCore for WindowNode {
    fn name(&self) -> &str {
        "Window"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        std::iter::once(&self.time).chain(&self.partition).cloned().map(Expr::Column).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Window: {} of {}", describe(self.window), self.time)
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let columns = exprs.into_iter().map(|expr| match expr {
            Expr::Column(column) => Ok(column),
            expr => Err(external(Diagnostic::new(format!("a window is over columns, not over {expr}")))),
        });
        let mut columns = columns.collect::<Result<Vec<Column>>>()?.into_iter();
        match (columns.next(), inputs.pop()) {
            (Some(time), Some(input)) => Self::try_new(input, self.window, time, columns.collect()),
            _ => Err(external(Diagnostic::new("a window needs an input and a column as its time"))),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let n = self.input.schema().fields().len();
        Some(vec![output_columns.iter().copied().filter(|column| *column < n).collect()])
    }
}

/// Plans the calls.
#[derive(Debug)]
pub(crate) struct WindowPlanner {
    pub(crate) positions: Arc<Positions>,
}

pub(crate) const KINDS: [&str; 4] = ["tumble", "hop", "cumulate", "session"];

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
        let form = match kind.as_str() {
            "tumble" => "TUMBLE(TABLE t, DESCRIPTOR(time), width)",
            "hop" => "HOP(TABLE t, DESCRIPTOR(time), slide, width)",
            "cumulate" => "CUMULATE(TABLE t, DESCRIPTOR(time), step, width)",
            "session" => "SESSION(TABLE t PARTITION BY key, DESCRIPTOR(time), gap)",
            _ => {
                let error = Diagnostic::new(format!("unknown table function '{name}'")).suggest(&kind, KINDS);
                return Err(external(at(error, name_place)));
            }
        };
        let exprs: Vec<&SqlExpr> = args.iter().filter_map(unnamed).collect();
        let wanted = if kind == "tumble" || kind == "session" { 3 } else { 4 };
        if exprs.len() != args.len() || exprs.len() != wanted {
            return refuse(format!("{} takes {wanted} arguments: {form}", kind.to_uppercase()));
        }
        let (table, time) = (call_of(exprs[0], TABLE_ARGUMENT), call_of(exprs[1], "descriptor"));
        let Some([table, partition @ ..]) = table.as_deref() else {
            return refuse(format!(
                "the first argument of {} is TABLE and a table's name: {form}",
                kind.to_uppercase()
            ));
        };
        let Some([time]) = time.as_deref() else {
            return refuse(format!("the second argument of {} is DESCRIPTOR(column): {form}", kind.to_uppercase()));
        };
        if let (Some(first), true) = (partition.first(), kind != "session") {
            let error = Diagnostic::new(format!(
                "{} has no partitions: its windows are alike for all rows",
                kind.to_uppercase()
            ))
            .help("leave PARTITION BY out, and group by the column");
            return Err(external(at(error, self.place(first.span))));
        }
        let input = context.plan(table_factor((*table).clone()))?;
        let time = self.time_column(&input, table, time)?;
        let partition = partition.iter().map(|name| self.column(&input, name)).collect::<Result<Vec<Column>>>()?;
        if let Some(taken) = WINDOW_COLUMNS.iter().find(|name| has_column(&input, name)) {
            let error = Diagnostic::new(format!("'{}' has a column {taken} already", table.value))
                .help("rename it in a view, or leave it out");
            return Err(external(at(error, self.place(table.span))));
        }
        let mut widths = Vec::new();
        for expr in &exprs[2..] {
            let place = self.place(expr.span()).or(name_place);
            let planned = context.sql_to_expr((*expr).clone(), &DFSchema::empty())?;
            widths.push(interval_us(&planned).map_err(|error| external(at(error, place)))?);
        }
        let window = window_of(&kind, &widths).map_err(|error| external(at(error, name_place)))?;
        Ok(WindowNode::try_new(input, window, time, partition)?.into_plan())
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

    fn time_column(&self, input: &LogicalPlan, table: &Ident, time: &Ident) -> Result<Column> {
        let place = self.place(time.span);
        let index = self.position(input, time)?;
        if !is_event_time(input, index) {
            let error = Diagnostic::new(format!("'{}' is not the event time of '{}'", time.value, table.value))
                .help(format!("declare WATERMARK FOR {} AS … on the table it comes from", time.value));
            return Err(external(at(error, place)));
        }
        Ok(Column::from(input.schema().qualified_field(index)))
    }
}

/// The window that a call of this kind with these widths means.
pub(crate) fn window_of(kind: &str, widths: &[i64]) -> std::result::Result<Window, Diagnostic> {
    match (kind, widths) {
        ("tumble", [width_us]) => Ok(Window::Tumble { width_us: *width_us }),
        ("hop", [slide_us, width_us]) if slide_us == width_us => Ok(Window::Tumble { width_us: *width_us }),
        ("hop", [slide_us, width_us]) => Ok(Window::Hop { width_us: *width_us, slide_us: *slide_us }),
        ("cumulate", [step_us, width_us]) if width_us % step_us != 0 => {
            Err(Diagnostic::new("the width of CUMULATE is a whole number of its steps"))
        }
        ("cumulate", [step_us, width_us]) => Ok(Window::Cumulate { width_us: *width_us, step_us: *step_us }),
        ("session", [gap_us]) => Ok(Window::Session { gap_us: *gap_us }),
        ("tumble", _) => Err(Diagnostic::new("tumble takes one argument: tumble(width)")),
        ("session", _) => Err(Diagnostic::new("session takes one argument: session(gap)")),
        ("cumulate", _) => Err(Diagnostic::new("cumulate takes two arguments: cumulate(step, width)")),
        _ => Err(Diagnostic::new("hop takes two arguments: hop(slide, width)")),
    }
}

pub(crate) fn has_column(plan: &LogicalPlan, name: &str) -> bool {
    plan.schema().fields().iter().any(|field| field.name() == name)
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
