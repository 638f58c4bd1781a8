//! `NOT NULL` of a column: no row without a value for it is written into the table.

use super::errors::Place;
use super::lower::{Columns, Lowered, Lowering, fields_of, planner};
use super::settings::SINK_NOT_NULL;
use super::statements::{Script, TableStatement};
use crate::dataflow::Operator;
use crate::functions::required;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::conjunction;

/// Whether rows that lack such a value are left out; otherwise they end the job.
fn drops(script: &Script) -> bool {
    script.setting(SINK_NOT_NULL).is_some_and(|setting| setting.value.eq_ignore_ascii_case("drop"))
}

/// What a row must fulfil to be written into a table, `columns` being the table's; and the columns as they are written.
pub(crate) fn enforced(script: &Script, table: &TableStatement, columns: &[Expr]) -> (Option<Expr>, Vec<Expr>) {
    if drops(script) {
        let there = table.not_null.iter().map(|column| columns[*column].clone().is_not_null());
        return (conjunction(there), columns.to_vec());
    }
    let names: Vec<String> = table.def.schema.fields().iter().map(|field| field.name().clone()).collect();
    let written = columns.iter().enumerate().map(|(at, column)| match table.not_null.contains(&at) {
        true => {
            let args = std::iter::once(column).chain(columns).cloned().collect();
            required(&table.name.text, &names[at], names.clone()).call(args)
        }
        false => column.clone(),
    });
    (None, written.collect())
}

impl Lowering<'_> {
    /// `input`, whose columns are the table's, without rows that the table does not take.
    pub(crate) fn enforce_not_null(
        &mut self,
        mut input: usize,
        table: &TableStatement,
        script: &Script,
        places: &[Place<'_>],
    ) -> Lowered<usize> {
        if table.not_null.is_empty() {
            return Ok(input);
        }
        let fields = fields_of(table.def.schema.fields());
        let columns: Vec<Expr> = (0..fields.len()).map(|at| self.graph.column(input, at)).collect();
        let (condition, columns) = enforced(script, table, &columns);
        if let Some(condition) = condition {
            let does = self.graph.text(input, &condition);
            let predicate = self.graph.physical(input, &condition).map_err(|error| planner(&error, places))?;
            let kept =
                self.graph.add("filter", &does, vec![input], self.graph.fields(input), Operator::Filter { predicate });
            input = kept.map_err(|error| planner(&error, places))?;
        }
        self.emit(input, &columns, Columns { fields, named: true }, places)
    }
}
