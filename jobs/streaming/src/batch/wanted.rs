//! What a query over a table says of its columns: that one has some value, or one of several.
//!
//! Invariant: every row for which the condition is true has one of the values; each value is there once.

use connectors::OneOf;
use datafusion::arrow::datatypes::Schema;
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

/// `None`: the condition is another one.
pub(crate) fn one_of(condition: &Expr, schema: &Schema) -> Option<OneOf> {
    let (column, mut values) = said(condition)?;
    let at = schema.index_of(&column.name).ok()?;
    let kind = schema.field(at).data_type();
    // Nothing is equal to null.
    values.retain(|value| !value.is_null());
    if values.is_empty() || values.iter().any(|value| value.data_type() != *kind) {
        return None;
    }
    let mut different: Vec<ScalarValue> = Vec::with_capacity(values.len());
    for value in values {
        if !different.contains(&value) {
            different.push(value);
        }
    }
    Some(OneOf { column: at, values: ScalarValue::iter_to_array(different).ok()? })
}

fn said(condition: &Expr) -> Option<(&Column, Vec<ScalarValue>)> {
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => match (left.as_ref(), right.as_ref()) {
            (Expr::Column(column), Expr::Literal(value, _)) | (Expr::Literal(value, _), Expr::Column(column)) => {
                Some((column, vec![value.clone()]))
            }
            _ => None,
        },
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let (column, mut values) = said(left)?;
            let (other, more) = said(right)?;
            values.extend(more);
            (column == other).then_some((column, values))
        }
        Expr::InList(InList { expr, list, negated: false }) => {
            let Expr::Column(column) = expr.as_ref() else { return None };
            let literal = |item: &Expr| match item {
                Expr::Literal(value, _) => Some(value.clone()),
                _ => None,
            };
            Some((column, list.iter().map(literal).collect::<Option<_>>()?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{Array, AsArray};
    use datafusion::arrow::datatypes::{DataType, Field, Int64Type};
    use datafusion::prelude::{col, lit};

    #[test]
    fn equality_with_some_values_is_understood_and_nothing_else() {
        let schema = Schema::new(vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Utf8, true)]);
        let values = |condition: Expr| {
            let found = one_of(&condition, &schema)?;
            assert_eq!((found.column, found.values.null_count()), (0, 0));
            Some(found.values.as_primitive::<Int64Type>().values().to_vec())
        };
        assert_eq!(values(col("a").eq(lit(1_i64))), Some(vec![1]));
        assert_eq!(values(lit(1_i64).eq(col("a"))), Some(vec![1]));
        assert_eq!(values(col("a").in_list(vec![lit(2_i64), lit(1_i64), lit(2_i64)], false)), Some(vec![2, 1]));
        let either = col("a").eq(lit(1_i64)).or(col("a").eq(lit(3_i64))).or(col("a").eq(lit(1_i64)));
        assert_eq!(values(either), Some(vec![1, 3]));
        for other in [
            col("a").gt(lit(1_i64)),
            col("a").eq(lit(1_i32)),
            col("a").eq(col("a")),
            col("a").in_list(vec![lit(1_i64)], true),
            col("a").eq(lit(1_i64)).or(col("b").eq(lit("x"))),
            col("a").eq(lit(ScalarValue::Int64(None))),
            col("c").eq(lit(1_i64)),
        ] {
            assert!(one_of(&other, &schema).is_none(), "{other}");
        }
    }
}
