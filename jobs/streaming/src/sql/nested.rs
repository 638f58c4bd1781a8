//! Names within structs.
//!
//! Invariant: they match without regard to case, as names of columns do. In plans they are in lower case; a source takes
//! that on at its door (`relabel` costs nothing but a new schema), and results and sinks have the written spelling again.

use super::statements::Script;
use super::types::{map_of, map_value};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::{Column, DFSchema, Result, ScalarValue, TableReference, plan_err};
use datafusion::functions::core::get_field;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawFieldAccessExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, GetFieldAccess, lit};
use std::sync::Arc;

/// The type with every name within it given by `name`. What is in it may be null, whatever made it says.
fn renamed(data_type: &DataType, name: &impl Fn(&str) -> String) -> DataType {
    match data_type {
        DataType::Struct(fields) => {
            let inner = |field: &FieldRef| Field::new(name(field.name()), renamed(field.data_type(), name), true);
            DataType::Struct(fields.iter().map(inner).collect())
        }
        DataType::List(item) => DataType::List(Arc::new(Field::new_list_field(renamed(item.data_type(), name), true))),
        map if map_value(map).is_some() => {
            map_value(map).map_or_else(|| map.clone(), |value| map_of(renamed(value, name)))
        }
        other => other.clone(),
    }
}

fn renamed_field(field: &Field, name: &impl Fn(&str) -> String) -> Field {
    field.clone().with_data_type(renamed(field.data_type(), name))
}

/// The type as plans see it.
pub(crate) fn lowered(data_type: &DataType) -> DataType {
    if data_type.is_nested() { renamed(data_type, &str::to_lowercase) } else { data_type.clone() }
}

/// Whether types differ in nothing but the case of names within them.
pub(crate) fn same_but_names(a: &DataType, b: &DataType) -> bool {
    lowered(a) == lowered(b)
}

/// The type with room for nulls everywhere within it.
pub(crate) fn with_nulls(data_type: &DataType) -> DataType {
    if data_type.is_nested() { renamed(data_type, &str::to_string) } else { data_type.clone() }
}

/// The field as plans see it.
pub(crate) fn lowered_field(field: &Field) -> Field {
    field.clone().with_name(field.name().to_lowercase()).with_data_type(lowered(field.data_type()))
}

/// The field with names as the file writes them.
pub(crate) fn spelled_field(field: &Field, script: &Script) -> Field {
    let spelled = |name: &str| script.spelled(name).to_string();
    renamed_field(field, &spelled).with_name(spelled(field.name()))
}

/// Gives all names within a type to `found`.
pub(crate) fn for_each_name(data_type: &DataType, found: &mut impl FnMut(&str)) {
    match data_type {
        DataType::Struct(fields) => fields.iter().for_each(|field| {
            found(field.name());
            for_each_name(field.data_type(), found);
        }),
        DataType::List(item) => for_each_name(item.data_type(), found),
        other => map_value(other).into_iter().for_each(|value| for_each_name(value, found)),
    }
}

/// The field of this name: the one that is spelled so, or else the only one but for case.
fn find<'f>(fields: &'f Fields, name: &str) -> Option<&'f FieldRef> {
    let lower = name.to_lowercase();
    let exact = fields.iter().find(|field| field.name() == name);
    let mut alike = fields.iter().filter(|field| field.name().to_lowercase() == lower);
    exact.or_else(|| alike.next().filter(|_| alike.next().is_none()))
}

/// `bid.price` and `bid['price']`.
#[derive(Debug)]
pub(crate) struct NestedNames;

impl ExprPlanner for NestedNames {
    fn plan_field_access(
        &self,
        access: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        let RawFieldAccessExpr { expr, field_access } = access;
        let written = match &field_access {
            GetFieldAccess::NamedStructField { name: ScalarValue::Utf8(Some(name)) } => name,
            _ => return Ok(PlannerResult::Original(RawFieldAccessExpr { expr, field_access })),
        };
        let known = match expr.get_type(schema) {
            Ok(DataType::Struct(fields)) => find(&fields, written).map(|field| field.name().clone()),
            _ => None,
        };
        Ok(match known {
            Some(name) => PlannerResult::Planned(get_field().call(vec![expr, lit(name)])),
            None => PlannerResult::Original(RawFieldAccessExpr { expr, field_access }),
        })
    }

    fn plan_compound_identifier(
        &self,
        field: &Field,
        qualifier: Option<&TableReference>,
        nested_names: &[String],
    ) -> Result<PlannerResult<Vec<Expr>>> {
        let mut expr = Expr::Column(Column::new(qualifier.cloned(), field.name()));
        let mut within = field.data_type();
        for name in nested_names {
            let known = match within {
                DataType::Struct(fields) => find(fields, name),
                _ => None,
            };
            // The planner after this one says what is wrong.
            let Some(known) = known else { return plan_err!("no field '{name}'") };
            expr = get_field().call(vec![expr, lit(known.name().as_str())]);
            within = known.data_type();
        }
        Ok(PlannerResult::Planned(expr))
    }
}
