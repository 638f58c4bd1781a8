//! Lookups: each row of a stream asks a table outside for the rows of its key.
//!
//! Rows stay on their slice: they are not dealt out by the key that they ask for, so the rows of a split keep their order,
//! which a table that is written by key depends on. Each slice has a cache of its own.

use super::as_of::{AsOfNode, over_table};
use super::errors::Place;
use super::join::both_sides;
use super::lower::{Lowered, Lowering, Outputs, Slot, Stream, defect, planner};
use super::physical::physical;
use super::refuse::{at, find};
use super::types::sql_name;
use crate::dataflow::{Lookup, Operator};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, DataFusionError, Result as PlanResult};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator as Op};
use datafusion::physical_expr::PhysicalExpr;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// What a condition asks of a column of the table.
pub(crate) struct Equal {
    /// Which of the conditions.
    pub(crate) condition: usize,
    /// Over the left side.
    pub(crate) left: Expr,
    /// Column of the table.
    pub(crate) column: usize,
}

impl Lowering<'_> {
    pub(crate) fn lookup(&mut self, node: &AsOfNode, left: Stream, places: &[Place<'_>]) -> Lowered<Stream> {
        let Some((table, outputs)) = over_table(&node.right) else {
            return Err(defect("a lookup in something other than a table", places));
        };
        let (def, cache) = (table.statement.def.clone(), table.statement.lookup_cache);
        let place = node.place.or_else(|| find(places, &[&["SYSTEM_TIME"]]));
        let Some(connector) = connectors::find(def.connector()) else {
            return Err(defect(&format!("connector '{}'", def.connector()), places));
        };
        let conditions = node.conditions.iter().map(|condition| condition.clone().unalias_nested().data);
        let conditions: Vec<Expr> = conditions.collect();
        let (equals, cast) = equals(node, &conditions, &outputs, &def.schema);
        let mut asked: Vec<usize> = equals.iter().map(|equal| equal.column).collect();
        asked.sort_unstable();
        asked.dedup();
        let keys = connector.lookup_keys(&def, &asked).map_err(|error| match &cast {
            Some(help) => at(error.help(help.clone()), place),
            None => at(error, place),
        })?;
        let by: Vec<&Equal> = keys.iter().filter_map(|key| equals.iter().find(|equal| equal.column == *key)).collect();
        if by.len() != keys.len() || keys.is_empty() {
            return Err(defect("a lookup by columns that have no value", places));
        }

        let mut input = Outputs::default();
        let columns = self.all_columns(&left, &mut input, places)?;
        let mut input_keys = Vec::new();
        for equal in &by {
            let expr = self.resolve(&equal.left, &left, places)?;
            input_keys.push(input.push(expr, &equal.left.schema_name().to_string()));
        }
        let input = self.outputs(left.node, input, places)?;
        let left_fields = self.graph.fields(input);

        let rest = conditions.iter().enumerate().filter(|(at, _)| by.iter().all(|equal| equal.condition != *at));
        let rest = conjunction(rest.map(|(_, condition)| condition.clone()));
        let failed = |error: DataFusionError| planner(&error, places);
        let read = Read::of(&def.schema, &outputs, &keys).map_err(failed)?;
        let right_fields = read.fields(&outputs, &node.right.schema().as_arrow().clone()).map_err(failed)?;
        let (mut residual, mut residual_text) = (None, String::new());
        if let Some(rest) = rest {
            let place = |column: &Column| match node.left.schema().maybe_index_of_column(column) {
                Some(index) => Some(columns[index]),
                None => node.right.schema().maybe_index_of_column(column).map(|index| left_fields.len() + index),
            };
            let (physical, text) = of_pairs(rest, &left_fields, &right_fields, place).map_err(failed)?;
            (residual, residual_text) = (Some(physical), text);
        }
        let exprs = outputs.iter().map(|expr| read.physical(expr)).collect::<PlanResult<Vec<_>>>().map_err(failed)?;
        let texts: Vec<String> = outputs.iter().map(ToString::to_string).collect();
        let does = format!(
            "{} {} {input_keys:?} {keys:?} {} {residual_text}",
            table.statement.name.key(),
            node.outer,
            texts.join(", ")
        );
        let n_left = left_fields.len();
        let fields = left_fields.into_iter().chain(right_fields).map(|field| field.with_nullable(true)).collect();
        let slots = columns.into_iter().chain((0..outputs.len()).map(|index| n_left + index)).map(Slot::Column);
        let slots = slots.collect();
        let lookup = Lookup {
            table: def,
            table_keys: keys,
            input_keys,
            projection: read.columns,
            exprs,
            outer: node.outer,
            residual,
            cache,
        };
        let added = self.graph.add("lookup", &does, vec![input], fields, Operator::Lookup(Box::new(lookup)));
        let added = added.map_err(|error| planner(&error, places))?;
        let schema = left.schema.join(node.right.schema()).map_err(|error| planner(&error, places))?;
        Ok(Stream { node: added, schema: Arc::new(schema), slots, open: None, row: None })
    }
}

/// What the conditions ask of columns of the table; also the way out where a column would have to be cast.
pub(crate) fn equals(
    node: &AsOfNode,
    conditions: &[Expr],
    outputs: &[Expr],
    table: &Schema,
) -> (Vec<Equal>, Option<String>) {
    let (left_schema, right_schema) = (node.left.schema(), node.right.schema());
    let of_left = |expr: &Expr| expr.column_refs().iter().all(|column| left_schema.has_column(column));
    let column_of = |expr: &Expr| match expr {
        Expr::Column(column) => match &outputs[right_schema.maybe_index_of_column(column)?] {
            Expr::Column(own) => table.fields().iter().position(|field| field.name().to_lowercase() == own.name),
            _ => None,
        },
        _ => None,
    };
    let (mut found, mut cast) = (Vec::new(), None);
    for (condition, expr) in conditions.iter().enumerate() {
        let Expr::BinaryExpr(BinaryExpr { left: a, op: Op::Eq, right: b }) = expr else { continue };
        for (left, right) in [(a, b), (b, a)] {
            if !of_left(left) {
                continue;
            }
            if let Some(column) = column_of(right)
                && left.get_type(left_schema).is_ok_and(|kind| kind == *table.field(column).data_type())
            {
                found.push(Equal { condition, left: left.as_ref().clone(), column });
                break;
            }
            if let Expr::Cast(inner) = right.as_ref()
                && let Some(column) = column_of(&inner.expr)
            {
                let field = table.field(column);
                let kind = sql_name(field.data_type());
                cast = Some(format!("'{}' is {kind}: write CAST(… AS {kind}) = {}", field.name(), field.name()));
            }
        }
    }
    (found, cast)
}

/// The columns of the table that are read, under the names by which expressions know them.
struct Read {
    columns: Vec<usize>,
    schema: DFSchema,
}

impl Read {
    /// Those that `outputs` are made of; at least one, by which rows are counted.
    fn of(table: &Schema, outputs: &[Expr], keys: &[usize]) -> PlanResult<Self> {
        let position = |name: &str| table.fields().iter().position(|field| field.name().to_lowercase() == name);
        let mut columns: BTreeSet<usize> = outputs
            .iter()
            .flat_map(|expr| {
                expr.column_refs().into_iter().filter_map(|column| position(&column.name)).collect::<Vec<_>>()
            })
            .collect();
        if columns.is_empty() {
            columns.extend(keys.first());
        }
        let columns: Vec<usize> = columns.into_iter().collect();
        let field = |column: &usize| {
            let field = table.field(*column);
            (None, Arc::new(field.clone().with_name(field.name().to_lowercase())))
        };
        let schema = DFSchema::new_with_metadata(columns.iter().map(field).collect(), HashMap::new())?;
        Ok(Self { columns, schema })
    }

    fn fields(&self, outputs: &[Expr], named: &Schema) -> PlanResult<Vec<Field>> {
        let field = |(expr, field): (&Expr, &Arc<Field>)| {
            let kind: DataType = expr.get_type(&self.schema)?;
            Ok(Field::new(field.name(), kind, true))
        };
        outputs.iter().zip(named.fields()).map(field).collect()
    }

    fn physical(&self, expr: &Expr) -> PlanResult<Arc<dyn PhysicalExpr>> {
        physical(expr, &self.schema)
    }
}

/// A condition on pairs of rows, over the left fields and then the right ones, and a text of it without names that may
/// change. `place`: where a column stands among them.
pub(crate) fn of_pairs(
    condition: Expr,
    left: &[Field],
    right: &[Field],
    place: impl Fn(&Column) -> Option<usize>,
) -> PlanResult<(Arc<dyn PhysicalExpr>, String)> {
    let both = both_sides(left, right)?;
    let condition = condition.transform_up(|expr| match &expr {
        Expr::Column(column) => match place(column) {
            Some(index) => Ok(Transformed::yes(Expr::Column(Column::new_unqualified(both.field(index).name())))),
            None => Ok(Transformed::no(expr)),
        },
        _ => Ok(Transformed::no(expr)),
    })?;
    let physical = physical(&condition.data, &both)?;
    Ok((physical, condition.data.to_string()))
}
