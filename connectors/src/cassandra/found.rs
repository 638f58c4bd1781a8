//! The rows of some keys, for a query that says which values columns have: the whole partition key, and clustering columns
//! behind it. Whatever else the query asks is compared afterwards. An index is not asked: it may lag behind its table.
//!
//! Invariant: every row that has the values is found; where that is not sure, nothing is, and the table is read through.

use super::cells::Columns;
use super::schema::{self, Found};
use super::session;
use super::settings::{Settings, quoted};
use super::source::{Source, prepare, projected};
use crate::api::{Error, OneOf, Result, TableDef};
use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema};
use std::collections::HashSet;
use std::sync::Arc;

/// Each is a request of its own, one after the other: more are slower than reading a small table through.
const MOST_KEYS: usize = 256;

pub fn open(settings: Settings, table: &TableDef, projection: &[usize], wanted: &[OneOf]) -> Result<Option<Source>> {
    let session = session::connect(&settings)?;
    let prepared = session::block_on(async {
        let found = schema::find(&session, &settings, table, false).await?;
        let Some(by) = by_key(&found, table, wanted) else { return Ok(None) };
        let Some(keys) = product(table, &by) else { return Ok(None) };
        let condition: Vec<String> =
            by.iter().map(|one| format!("{} = ?", quoted(table.schema.field(one.column).name()))).collect();
        let select = prepare(&session, &settings, table, projection, &found, &condition.join(" AND ")).await?;
        Ok::<_, Error>(Some((select, keys, found.partition_key.len() == 1)))
    })??;
    let Some((select, keys, is_single)) = prepared else { return Ok(None) };
    let there: Vec<_> = select.get_variable_col_specs().iter().map(|spec| spec.typ().clone()).collect();
    let columns = Columns::new(&keys, &there)?;
    // What the server cannot hold no row there has, and a partition key of one column is never empty.
    let can_be_there = |row: &usize| columns.can_be_there(*row) && !(is_single && columns.begins_empty(*row));
    // Two texts may be one uuid, whose rows come once.
    let mut seen = HashSet::new();
    let is_new = |row: &usize| columns.encode(*row, 0, false).is_ok_and(|encoded| seen.insert(encoded));
    let asked: Vec<usize> = (0..keys.num_rows()).filter(can_be_there).filter(is_new).collect();
    let schema = projected(table, projection);
    Ok(Some(Source::of_keys(settings, session, select, schema, columns, asked.into_iter())))
}

/// Whether equal values are one value there too: of numbers with a point and of what has parts they need not be.
fn is_exact(kind: &DataType) -> bool {
    match kind {
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 | DataType::Boolean | DataType::Date32 => true,
        DataType::Timestamp(..) | DataType::Time64(_) | DataType::Binary | DataType::LargeBinary => true,
        kind => kind.is_signed_integer(),
    }
}

/// The columns of the partition key, if there are values for all of them, and the clustering columns behind it as far as there
/// are values for these too.
fn by_key<'a>(found: &Found, table: &TableDef, wanted: &'a [OneOf]) -> Option<Vec<&'a OneOf>> {
    let of = |name: &String| {
        let is_it = |one: &&OneOf| {
            let field = table.schema.field(one.column);
            field.name() == name && is_exact(field.data_type())
        };
        wanted.iter().find(is_it)
    };
    let mut by: Vec<&OneOf> = found.partition_key.iter().map(of).collect::<Option<_>>()?;
    by.extend(found.clustering_key.iter().map_while(of));
    Some(by)
}

/// Each value of one with each of the others; nothing if that is too many.
fn product(table: &TableDef, by: &[&OneOf]) -> Option<RecordBatch> {
    let n = by.iter().try_fold(1_usize, |n, one| n.checked_mul(one.values.len())).filter(|n| *n <= MOST_KEYS)?;
    let mut repeat = 1;
    let mut columns: Vec<(Field, ArrayRef)> = Vec::with_capacity(by.len());
    for one in by {
        let len = one.values.len();
        let at: UInt32Array = (0..n).map(|row| (row / repeat % len) as u32).collect();
        columns.push((table.schema.field(one.column).clone(), take(&one.values, &at, None).ok()?));
        repeat *= len;
    }
    let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::table;
    use arrow::array::{AsArray, Int64Array, StringArray};
    use arrow::datatypes::Int64Type;

    #[test]
    fn the_whole_partition_key_and_what_follows_it_find_rows() {
        let columns = [("a", DataType::Int64), ("b", DataType::Utf8), ("c", DataType::Int64), ("d", DataType::Int64)];
        let table = table(&columns, &[("connector", "cassandra")]);
        let ints =
            |column: usize, values: &[i64]| OneOf { column, values: Arc::new(Int64Array::from(values.to_vec())) };
        let text = OneOf { column: 1, values: Arc::new(StringArray::from(vec!["x", "y"])) };
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<String>>();
        let found = Found { partition_key: names(&["a", "b"]), clustering_key: names(&["c", "d"]) };
        let by = |wanted: &[OneOf]| -> Option<Vec<usize>> {
            by_key(&found, &table, wanted).map(|by| by.iter().map(|one| one.column).collect())
        };
        assert_eq!(by(&[ints(0, &[1])]), None, "half a partition key");
        assert_eq!(by(&[text.clone(), ints(0, &[1])]), Some(vec![0, 1]));
        assert_eq!(by(&[text.clone(), ints(0, &[1]), ints(3, &[4])]), Some(vec![0, 1]), "c is not said");
        let all = [ints(2, &[3, 4, 5]), text, ints(0, &[1])];
        assert_eq!(by(&all), Some(vec![0, 1, 2]));
        let keys = product(&table, &by_key(&found, &table, &all).expect("all are said")).expect("few");
        let c: Vec<i64> = keys.column(2).as_primitive::<Int64Type>().values().to_vec();
        assert_eq!((keys.num_rows(), c), (6, vec![3, 3, 4, 4, 5, 5]));
        let b: Vec<_> = keys.column(1).as_string::<i32>().iter().flatten().collect();
        assert_eq!(b, ["x", "y", "x", "y", "x", "y"]);
        let many = ints(0, &(0..257).collect::<Vec<i64>>());
        assert!(product(&table, &[&many]).is_none());
        assert!(!is_exact(&DataType::Float64) && !is_exact(&DataType::Decimal128(5, 2)));
    }
}
