//! Unnesting: [columns, and the lists apart from them] -> one row for each item.

use crate::dataflow::Operator;
use crate::sql::errors::Place;
use crate::sql::lower::{Lowered, Lowering, Open, Outputs, Slot, Stream, defect, planner};
use crate::sql::refuse::{at, find};
use arrow::datatypes::{DataType, Field};
use datafusion::common::NullHandling;
use datafusion::functions::core::get_field;
use datafusion::logical_expr::{Unnest, lit};
use jobs::Diagnostic;
use std::sync::Arc;

/// The column of the input that an unnesting passes on unchanged as its output column `index`.
pub(crate) fn passed_on(unnest: &Unnest, index: usize) -> Option<usize> {
    let from = *unnest.dependency_indices.get(index)?;
    let taken_apart =
        unnest.struct_type_columns.contains(&from) || unnest.list_type_columns.iter().any(|(list, _)| *list == from);
    (!taken_apart).then_some(from)
}

impl Lowering<'_> {
    pub(crate) fn unnest(&mut self, unnest: &Unnest, places: &[Place<'_>]) -> Lowered<Stream> {
        let lists: Vec<usize> = unnest.list_type_columns.iter().map(|(column, _)| *column).collect();
        let twice = lists.iter().enumerate().any(|(at, list)| lists[..at].contains(list));
        if twice || unnest.list_type_columns.iter().any(|(_, list)| list.depth != 1) {
            let error = Diagnostic::new("UNNEST within UNNEST is not supported in a stream yet");
            let error = error.help("take the outer array apart in a view, and the inner one in a query of it");
            return Err(at(error, find(places, &[&["UNNEST"]])));
        }
        let input = self.lower(&unnest.input, places)?;
        let mut outputs = Outputs::default();
        let mut slots: Vec<Option<Slot>> = vec![None; input.slots.len()];
        for (index, slot) in input.slots.iter().enumerate().filter(|(index, _)| !lists.contains(index)) {
            slots[index] = Some(match slot {
                Slot::Window(which) => Slot::Window(*which),
                Slot::Column(_) | Slot::Lazy(_) => {
                    let expr = self.slot(&input, index, places)?;
                    Slot::Column(outputs.push(expr, input.schema.field(index).name()))
                }
            });
        }
        let open = input.open.as_ref().map(|open| {
            let time = outputs.push(self.graph.column(input.node, open.time), "event_time");
            let mut push = |column: &usize| outputs.push(self.graph.column(input.node, *column), "partition");
            let partition = open.partition.iter().map(&mut push).collect();
            Open { window: open.window, time, partition, lateness_us: open.lateness_us }
        });
        let row = input.row.clone().map(|row| row.through(input.node, &mut outputs, &self.graph));
        let n_kept = outputs.exprs.len();
        for list in &lists {
            // A list that is passed on as well is another column.
            outputs.push_apart(self.slot(&input, *list, places)?, input.schema.field(*list).name());
        }
        let node = self.outputs(input.node, outputs, places)?;
        let mut fields = self.graph.fields(node);
        for field in &mut fields[n_kept..] {
            let DataType::List(item) = field.data_type() else {
                return Err(defect(&format!("UNNEST of {}", field.data_type()), places));
            };
            *field = Field::new(field.name(), item.data_type().clone(), true);
        }
        let outer = match unnest.options.null_handling {
            NullHandling::Drop => false,
            NullHandling::PreserveAndExpandEmpty => true,
            NullHandling::Preserve => return Err(defect("UNNEST of this form", places)),
        };
        let node = match lists.len() {
            0 => node,
            n_lists => {
                let does = format!("{n_lists} {outer}");
                let operator = Operator::Unnest { n_lists, outer };
                let node = self.graph.add("unnest", &does, vec![node], fields, operator);
                node.map_err(|error| planner(&error, places))?
            }
        };
        let mut outputs = Vec::with_capacity(unnest.schema.fields().len());
        for (index, from) in unnest.dependency_indices.iter().enumerate() {
            let slot = match (&slots[*from], lists.iter().position(|list| list == from)) {
                (_, Some(list)) => Slot::Column(n_kept + list),
                (Some(slot), None) => slot.clone(),
                (None, None) => return Err(defect("UNNEST of this form", places)),
            };
            outputs.push(match (&slot, unnest.struct_type_columns.contains(from)) {
                (Slot::Column(column), true) => {
                    let field = struct_field(unnest, index, *from);
                    let name = field.ok_or_else(|| defect("UNNEST of this struct", places))?;
                    Slot::Lazy(get_field().call(vec![self.graph.column(node, *column), lit(name)]))
                }
                _ => slot,
            });
        }
        Ok(Stream { node, schema: Arc::clone(&unnest.schema), slots: outputs, open, row })
    }
}

/// The field of the struct in column `from` that output column `index` is.
fn struct_field(unnest: &Unnest, index: usize, from: usize) -> Option<String> {
    let DataType::Struct(fields) = unnest.input.schema().field(from).data_type() else { return None };
    let first = unnest.dependency_indices.iter().position(|of| *of == from)?;
    fields.get(index - first).map(|field| field.name().clone())
}
