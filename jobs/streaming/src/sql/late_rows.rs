//! Rows that come too late for a window, into a table of their own.
//!
//! A table's option `late_rows` names the table that gets them. They are told as they were read: the whole row goes with
//! what the window needs to where it is known that it is late. What windows turn away is the input of a sink like any
//! other, and is written as exactly. Behind a union the columns of all tables go on side by side; behind an unnesting a row is
//! told for each of its items that is late.

use super::errors::Place;
use super::graph::Graph;
use super::lower::{Columns, Lowered, Lowering, Outputs, Slot, Stream, fields_of, planner};
use super::refuse::{at, find};
use super::statements::{Script, TableStatement};
use super::types::{assignable, sql_name};
use crate::dataflow::Operator;
use arrow::datatypes::{DataType, Field};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::lit;
use jobs::Diagnostic;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows of tables whose late rows are wanted, as columns of a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    pub(crate) of: Vec<OfTable>,
}

/// A table's physical columns, in order, as columns of a node.
#[derive(Clone, Debug)]
pub(crate) struct OfTable {
    /// The table's key.
    pub(crate) table: String,
    pub(crate) columns: Vec<usize>,
    /// Behind a union: the column that is true where the row is one of this table.
    pub(crate) is: Option<usize>,
}

impl Row {
    /// All rows are of this table, and all of its columns are there.
    pub(crate) fn of_source(table: String, n_columns: usize) -> Self {
        Self { of: vec![OfTable { table, columns: (0..n_columns).collect(), is: None }] }
    }

    /// The same rows among `outputs` of the node.
    pub(crate) fn through(self, node: usize, outputs: &mut Outputs, graph: &Graph) -> Self {
        let mut column = |at: usize| outputs.push(graph.column(node, at), graph.columns(node).field(at).name());
        let through = |OfTable { table, columns, is }| {
            let columns = columns.into_iter().map(&mut column).collect();
            OfTable { table, columns, is: is.map(&mut column) }
        };
        Self { of: self.of.into_iter().map(through).collect() }
    }

    /// The rows of several inputs as columns of their union, behind the `fields` that it has anyway: adds theirs to them,
    /// and to the slots of each input what it has of them.
    pub(crate) fn united(inputs: &mut [Stream], fields: &mut Vec<Field>, graph: &Graph) -> Option<Self> {
        let mut all = Self::default();
        let known: Vec<Option<Self>> = inputs.iter().map(|input| input.row.clone()).collect();
        let (nodes, of): (Vec<usize>, Vec<&OfTable>) = inputs
            .iter()
            .zip(&known)
            .flat_map(|(input, row)| row.iter().flat_map(|row| &row.of).map(|of| (input.node, of)))
            .unzip();
        for (node, first) in nodes.into_iter().zip(of) {
            if all.of.iter().any(|known| known.table == first.table) {
                continue;
            }
            let begin = fields.len();
            let there = graph.fields(node);
            fields.extend(first.columns.iter().map(|column| there[*column].clone().with_nullable(true)));
            fields.push(Field::new("is_of_table", DataType::Boolean, true));
            for (input, row) in inputs.iter_mut().zip(&known) {
                let own = row.iter().flat_map(|row| &row.of).find(|of| of.table == first.table);
                input.slots.extend((0..first.columns.len()).map(|at| match own {
                    Some(own) => Slot::Column(own.columns[at]),
                    None => Slot::Lazy(lit(ScalarValue::Null)),
                }));
                input.slots.push(match own.map(|own| own.is) {
                    Some(Some(is)) => Slot::Column(is),
                    own => Slot::Lazy(lit(own.is_some())),
                });
            }
            let end = fields.len() - 1;
            all.of.push(OfTable { table: first.table.clone(), columns: (begin..end).collect(), is: Some(end) });
        }
        (!all.of.is_empty()).then_some(all)
    }
}

/// Refuses a window whose late rows are wanted, of these tables, and cannot be told.
pub(crate) fn check_row(input: &Stream, wanted: &[Arc<TableStatement>], places: &[Place<'_>]) -> Lowered<()> {
    let told = |table: &TableStatement| input.row.iter().flat_map(|row| &row.of).any(|of| of.table == table.name.key());
    let Some(table) = wanted.iter().find(|table| !told(table)) else { return Ok(()) };
    let text = format!("the late rows of '{}' cannot be told behind a join, DISTINCT or GROUP BY", table.name.text);
    let error = Diagnostic::new(text).help("put the window before it, or leave late_rows out");
    Err(at(error, find(places, &[&["TUMBLE"], &["HOP"], &["CUMULATE"], &["SESSION"]])))
}

impl Lowering<'_> {
    /// What comes too late for node `window`, which reads `input`, where the row's columns are.
    pub(crate) fn late_rows(&mut self, window: usize, input: usize, row: Row, places: &[Place<'_>]) -> Lowered<()> {
        let fields = self.graph.fields(input);
        let changes = self.graph.changes(input);
        let node = self.graph.add("late", "", vec![window], fields, Operator::LateRows { changes });
        let node = node.map_err(|error| planner(&error, places))?;
        // Two statements may read the same window.
        if !self.late.iter().any(|(known, _)| *known == node) {
            self.late.push((node, row));
        }
        Ok(())
    }

    /// The rows of a node for which a column of it is true.
    fn only_where(&mut self, node: usize, column: usize, places: &[Place<'_>]) -> Lowered<usize> {
        let predicate = self.graph.column(node, column);
        let does = self.graph.text(node, &predicate);
        let physical = self.graph.physical(node, &predicate).map_err(|error| planner(&error, places))?;
        let fields = self.graph.fields(node);
        let filter = self.graph.add("filter", &does, vec![node], fields, Operator::Filter { predicate: physical });
        filter.map_err(|error| planner(&error, places))
    }

    /// Writes all late rows into their tables.
    pub(crate) fn write_late_rows(&mut self, script: &Script, places: &[Place<'_>]) -> Lowered<()> {
        let mut by_target: BTreeMap<String, Vec<(usize, Vec<usize>)>> = BTreeMap::new();
        let mut targets: BTreeMap<String, Arc<TableStatement>> = BTreeMap::new();
        let late = std::mem::take(&mut self.late);
        for (node, of) in late.into_iter().flat_map(|(node, row)| row.of.into_iter().map(move |of| (node, of))) {
            let Some(table) = script.table(&of.table) else { continue };
            let target = target(script, table)?;
            let own = columns(table, &target)?.into_iter().map(|column| of.columns[column]).collect();
            let node = match of.is {
                Some(is) => self.only_where(node, is, places)?,
                None => node,
            };
            by_target.entry(target.name.key()).or_default().push((node, own));
            targets.insert(target.name.key(), target);
        }
        for (key, target) in targets {
            let fields = fields_of(target.def.schema.fields());
            let schema = DFSchema::from_unqualified_fields(target.def.schema.fields().clone(), Default::default());
            let schema = Arc::new(schema.map_err(|error| planner(&error, places))?);
            let stream = |node: usize, columns: Vec<usize>| {
                let slots = columns.into_iter().map(Slot::Column).collect();
                Stream { node, schema: Arc::clone(&schema), slots, open: None, row: None }
            };
            let mut nodes = Vec::new();
            for (node, own) in by_target.remove(&key).unwrap_or_default() {
                let columns = Columns { fields: fields.clone(), named: true };
                nodes.push(self.materialize(stream(node, own), columns, None, places)?);
            }
            let node = match nodes.as_slice() {
                [only] => *only,
                _ => {
                    let union = self.graph.add("union", "late", nodes, fields.clone(), Operator::Union);
                    union.map_err(|error| planner(&error, places))?
                }
            };
            let all: Vec<usize> = (0..fields.len()).collect();
            self.sink(stream(node, all.clone()), &target, &all, places)?;
        }
        Ok(())
    }
}

/// The mistakes of all options `late_rows` of a file.
pub(crate) fn mistakes(script: &Script) -> Vec<Diagnostic> {
    let wanted = script.tables().filter(|table| table.late_rows.is_some());
    wanted.filter_map(|table| target(script, table).and_then(|target| columns(table, &target)).err()).collect()
}

/// The tables that get the late rows of these ones, as they are declared.
pub(crate) fn written<'s>(script: &'s Script, tables: impl Iterator<Item = &'s String>) -> Vec<String> {
    let late = tables.filter_map(|table| script.table(table)?.late_rows.as_ref());
    late.filter_map(|name| script.table(&name.text)).map(|table| table.name.text.clone()).collect()
}

fn target(script: &Script, table: &TableStatement) -> Lowered<Arc<TableStatement>> {
    let Some(name) = &table.late_rows else {
        return Err(Diagnostic::new(format!("'{}' has no late_rows", table.name.text)).at(table.name.span));
    };
    let Some(target) = script.table(&name.text) else {
        let error =
            Diagnostic::new(format!("unknown table '{}' for the late rows of '{}'", name.text, table.name.text));
        let known: Vec<&str> = script.tables().map(|table| table.name.text.as_str()).collect();
        return Err(error.at(name.span).suggest(&name.text, known));
    };
    if script.tables_as().any(|table| table.view.name.key() == target.name.key()) {
        let error = Diagnostic::new(format!("'{}' is filled by the query that declares it", target.name.text));
        return Err(error.at(name.span).help("declare a table with its columns for the late rows"));
    }
    if target.name.key() == table.name.key() {
        let error = Diagnostic::new(format!("the late rows of '{}' would be read again and again", table.name.text));
        return Err(error.at(name.span).help("name another table"));
    }
    let connector = target.def.connector();
    if connectors::find(connector).is_some_and(|connector| !connector.is_sink()) {
        let text = format!("'{}' cannot be written: connector '{connector}' is a source only", target.name.text);
        return Err(Diagnostic::new(text).at(name.span));
    }
    if let Some(mut refused) = connectors::find(connector).and_then(|found| found.refuses_writing(&target.def)) {
        refused.span = Some(name.span);
        return Err(refused);
    }
    Ok(Arc::clone(target))
}

/// By column of the target the one of the table that has its name.
fn columns(table: &TableStatement, target: &TableStatement) -> Lowered<Vec<usize>> {
    let fields = table.def.schema.fields();
    let place = table.late_rows.as_ref().map(|name| name.span);
    let mut of = Vec::new();
    for wanted in target.def.schema.fields() {
        let same = |name: &str| name.to_lowercase() == wanted.name().to_lowercase();
        let Some(found) = fields.iter().position(|field| same(field.name())) else {
            let computed = table.columns.iter().any(|column| same(&column.name.text));
            let text = format!("'{}' of '{}' is no column of '{}'", wanted.name(), target.name.text, table.name.text);
            let text = match computed {
                true => format!("{text} that is read, but computed"),
                false => text,
            };
            let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
            return Err(at(Diagnostic::new(text).suggest(wanted.name(), names), place));
        };
        let (from, to) = (fields[found].data_type(), wanted.data_type());
        if from != to && !assignable(from, to) {
            let text = format!(
                "'{}' is {} in '{}' and {} in '{}', which gets its late rows",
                wanted.name(),
                sql_name(from),
                table.name.text,
                sql_name(to),
                target.name.text
            );
            return Err(at(Diagnostic::new(text), place));
        }
        of.push(found);
    }
    Ok(of)
}
