//! Joins with the version that was valid at a row's event time: [columns of each side] -> exchange by key -> join.
//!
//! The key is the primary key of the versioned table, all of it: by it versions are told apart. What else the join asks is
//! asked of the version that was valid, and does not choose another.

use super::as_of::{AsOfNode, over_table};
use super::errors::Place;
use super::lookup::{Equal, equals, of_pairs};
use super::lower::{Lowered, Lowering, Outputs, Slot, Stream, defect, planner};
use super::refuse::at;
use super::time::wait_us;
use crate::dataflow::{Operator, Temporal};
use datafusion::common::{Column, DataFusionError};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::conjunction;
use jobs::Diagnostic;
use std::sync::Arc;

/// One side, with its columns and keys as columns of a node.
struct Side {
    node: usize,
    /// By logical column: the node's.
    columns: Vec<usize>,
    keys: Vec<usize>,
}

impl Lowering<'_> {
    pub(crate) fn temporal(
        &mut self,
        node: &AsOfNode,
        times: &(Column, Column),
        left: Stream,
        places: &[Place<'_>],
    ) -> Lowered<Stream> {
        let Some((table, outputs)) = over_table(&node.right) else {
            return Err(defect("versions of something other than a table", places));
        };
        let right = self.lower(&node.right, places)?;
        if self.graph.changes(right.node) {
            let text = format!("'{}' takes rows back, and versions are rows that stay", table.statement.name.text);
            let help = "a row that is deleted tells no moment from which its key has no version; read the records as rows, without \
                        option 'changelog', where each is a version from its time on";
            return Err(at(Diagnostic::new(text).help(help), node.place));
        }
        let schema = left.schema.join(&right.schema).map_err(|error| planner(&error, places))?;
        let conditions = node.conditions.iter().map(|condition| condition.clone().unalias_nested().data);
        let conditions: Vec<Expr> = conditions.collect();
        let def = &table.statement.def;
        let (equals, cast) = equals(node, &conditions, &outputs, &def.schema);
        let mut by: Vec<&Equal> = Vec::new();
        for key in &def.primary_key {
            let Some(equal) = equals.iter().find(|equal| equal.column == *key) else {
                let (name, missing) = (&table.statement.name.text, def.schema.field(*key).name());
                let text =
                    format!("a version of '{name}' is found by its whole primary key, and this join has no {missing}");
                let help = cast.unwrap_or_else(|| format!("add … = {missing} to ON"));
                return Err(at(Diagnostic::new(text).help(help), node.place));
            };
            by.push(equal);
        }
        // A column of the table may be several columns of this side; each is the same value.
        let own = |column: usize| {
            let name = def.schema.field(column).name().to_lowercase();
            outputs.iter().position(|output| matches!(output, Expr::Column(own) if own.name == name))
        };
        let right_keys: Option<Vec<Expr>> = by
            .iter()
            .map(|equal| Some(Expr::Column(Column::from(node.right.schema().qualified_field(own(equal.column)?)))))
            .collect();
        let right_keys = right_keys.ok_or_else(|| defect("a key that is not read", places))?;
        let left_keys: Vec<Expr> = by.iter().map(|equal| equal.left.clone()).collect();
        let index = |stream: &Stream, column: &Column| {
            stream.schema.index_of_column(column).map_err(|error| planner(&error, places))
        };
        let (left_time, right_time) = (index(&left, &times.0)?, index(&right, &times.1)?);

        let (left_late, right_late) = (wait_us(&node.left, left_time), wait_us(&node.right, right_time));
        let mut left = self.keyed(left, &left_keys, places)?;
        let mut right = self.keyed(right, &right_keys, places)?;
        left.node = self.hold_back(left.node, left_late, places)?;
        right.node = self.hold_back(right.node, right_late, places)?;
        let (left_fields, right_fields) = (self.graph.fields(left.node), self.graph.fields(right.node));
        let n_left = left_fields.len();
        let rest = conditions.iter().enumerate().filter(|(at, _)| by.iter().all(|equal| equal.condition != *at));
        let rest = conjunction(rest.map(|(_, condition)| condition.clone()));
        let (mut residual, mut residual_text) = (None, String::new());
        if let Some(rest) = rest {
            let place = |column: &Column| match node.left.schema().maybe_index_of_column(column) {
                Some(index) => Some(left.columns[index]),
                None => node.right.schema().maybe_index_of_column(column).map(|index| n_left + right.columns[index]),
            };
            let failed = |error: DataFusionError| planner(&error, places);
            let (physical, text) = of_pairs(rest, &left_fields, &right_fields, place).map_err(failed)?;
            (residual, residual_text) = (Some(physical), text);
        }
        let (left_time, right_time) = (left.columns[left_time], right.columns[right_time]);
        let does = format!("{} {:?} {:?} {left_time} {right_time} {residual_text}", node.outer, left.keys, right.keys);
        let fields = left_fields.into_iter().chain(right_fields).map(|field| field.with_nullable(true)).collect();
        let join = Temporal {
            left_keys: left.keys,
            right_keys: right.keys,
            left_time,
            right_time,
            outer: node.outer,
            residual,
        };
        let inputs = vec![left.node, right.node];
        let joined = self.graph.add("temporal", &does, inputs, fields, Operator::Temporal(join));
        let joined = joined.map_err(|error| planner(&error, places))?;
        let columns = left.columns.into_iter().chain(right.columns.into_iter().map(|column| n_left + column));
        Ok(Stream {
            node: joined,
            schema: Arc::new(schema),
            slots: columns.map(Slot::Column).collect(),
            open: None,
            row: None,
        })
    }

    fn keyed(&mut self, stream: Stream, keys: &[Expr], places: &[Place<'_>]) -> Lowered<Side> {
        let mut outputs = Outputs::default();
        let columns = self.all_columns(&stream, &mut outputs, places)?;
        let mut key_columns = Vec::new();
        for key in keys {
            let expr = self.resolve(key, &stream, places)?;
            key_columns.push(outputs.push(expr, &key.schema_name().to_string()));
        }
        let node = self.outputs(stream.node, outputs, places)?;
        let node = self.exchange(node, key_columns.clone(), places)?;
        Ok(Side { node, columns, keys: key_columns })
    }
}
