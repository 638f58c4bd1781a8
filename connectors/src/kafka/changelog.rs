//! What a changelog is in a topic, and rows and changes as records.
//!
//! - none: rows are appended; changes are refused.
//! - `upsert`: a row is a record under its primary key, a row that is there no longer a tombstone: the same key without a
//!   value. What the topic says is its last record of each key, so it may be compacted.
//! - `debezium`: every change is a record in Debezium's envelope, see [`super::debezium`]; appended rows are creations.
//!
//! Invariant: with `upsert` no record is without a key, since nothing could remove or replace it.

use super::debezium::Envelopes;
use super::keys::{KeyEncoder, Keys};
use super::metadata::{Column, Places};
use super::record::Record;
use super::settings::Settings;
use super::values::ValueEncoder;
use crate::api::{Error, Gives, Result, TableDef, Takes};
use crate::changes;
use arrow::array::{Int8Array, RecordBatch};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changelog {
    None,
    Upsert,
    Debezium,
}

impl Changelog {
    pub fn takes(self) -> Takes {
        match self {
            Self::None => Takes::Append,
            Self::Upsert => Takes::Upsert,
            Self::Debezium => Takes::Changes,
        }
    }

    /// With a primary key an envelope need not hold all of the row that went.
    pub fn gives(self, table: &TableDef) -> Gives {
        match self {
            Self::None => Gives::Rows,
            Self::Debezium if table.primary_key.is_empty() => Gives::Changes,
            Self::Upsert | Self::Debezium => Gives::Upserts,
        }
    }
}

pub struct RecordEncoder {
    table: String,
    metadata: Vec<Column>,
    /// Where there is metadata: the other columns, as indices into the table's schema.
    of_value: Vec<usize>,
    keys: KeyEncoder,
    form: Form,
}

/// What values are made of.
enum Form {
    Rows(ValueEncoder),
    Upserts(ValueEncoder),
    Envelopes(Box<Envelopes>),
}

impl RecordEncoder {
    pub fn new(settings: &Settings) -> Result<Self> {
        let table = &settings.values;
        let form = match settings.changelog {
            Changelog::None => Form::Rows(ValueEncoder::new(table)?),
            Changelog::Upsert => Form::Upserts(ValueEncoder::new(table)?),
            Changelog::Debezium => Form::Envelopes(Box::new(Envelopes::new(table)?)),
        };
        let all = table.schema.fields().len() + settings.metadata.len();
        let of_value = (0..all).filter(|at| settings.metadata.iter().all(|column| column.at != *at)).collect();
        let keys = KeyEncoder::new(table, &settings.key_columns)?;
        Ok(Self { table: table.name.clone(), metadata: settings.metadata.clone(), of_value, keys, form })
    }

    /// Calls `take` with each record, in order. Without weights all rows are there.
    pub fn each(
        &mut self,
        batch: &RecordBatch,
        weights: Option<&Int8Array>,
        mut take: impl FnMut(&Record<'_>) -> Result<()>,
    ) -> Result<()> {
        let places = match self.metadata.is_empty() {
            true => None,
            false => Some(Places::of(&self.table, &self.metadata, batch)?),
        };
        let values = match self.metadata.is_empty() {
            true => batch.clone(),
            false => batch
                .project(&self.of_value)
                .map_err(|why| Error::Fatal(format!("rows of table '{}' cannot be written: {why}", self.table)))?,
        };
        let batch = &values;
        match &mut self.form {
            Form::Rows(values) => {
                if weights.is_some() {
                    return Err(Error::Fatal(format!(
                        "table '{}' takes appended rows only, and was given changes of rows; set option 'changelog'",
                        self.table
                    )));
                }
                let keys = self.keys.encode(batch)?;
                values.each(batch, |row, value| {
                    let place = places.as_ref().map(|places| places.get(row)).transpose()?.unwrap_or_default();
                    take(&Record { key: keys.get(row), value: Some(value), place })
                })
            }
            Form::Upserts(values) => {
                let (there, gone) = match weights {
                    Some(weights) => changes::halves(&self.table, batch, weights)?,
                    None => (batch.clone(), batch.slice(0, 0)),
                };
                let no_key = |keys: Keys| match keys.n_null() {
                    0 => Ok(keys),
                    n => Err(Error::Fatal(format!(
                        "the primary key of table '{}' is null in {n} rows, and connector 'kafka' writes by it with \
                         changelog = 'upsert'; filter them out with WHERE … IS NOT NULL",
                        self.table
                    ))),
                };
                let (keys, gone_keys) = (no_key(self.keys.encode(&there)?)?, no_key(self.keys.encode(&gone)?)?);
                (0..gone.num_rows()).try_for_each(|row| take(&Record::plain(gone_keys.get(row), None)))?;
                values.each(&there, |row, value| take(&Record::plain(keys.get(row), Some(value))))
            }
            Form::Envelopes(envelopes) => {
                let there = weights.map(|weights| changes::there(&self.table, batch, weights)).transpose()?;
                let keys = self.keys.encode(batch)?;
                envelopes.each(batch, there.as_ref(), &keys, |key, value| take(&Record::plain(key, Some(value))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::table;
    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use arrow::datatypes::DataType;
    use std::sync::Arc;

    type Shown = (Option<String>, Option<String>);

    /// A table (user, region, n) whose first columns are its primary key, as many as `n_key`.
    fn declared(n_key: usize, options: &[(&str, &str)]) -> TableDef {
        let base = [("topic", "t"), ("bootstrap.servers", "localhost:9092")];
        let all: Vec<(&str, &str)> = base.iter().chain(options).copied().collect();
        let columns = [("user", DataType::Utf8), ("region", DataType::Utf8), ("n", DataType::Int64)];
        TableDef { primary_key: (0..n_key).collect(), ..table(&columns, &all) }
    }

    fn batch(table: &TableDef, rows: &[(Option<&str>, &str, i64)]) -> RecordBatch {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(rows.iter().map(|row| row.0).collect::<StringArray>()),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1))),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.2))),
        ];
        RecordBatch::try_new(Arc::clone(&table.schema), columns).unwrap()
    }

    fn encoded(table: &TableDef, rows: &[(Option<&str>, &str, i64)], weights: Option<Vec<i8>>) -> Result<Vec<Shown>> {
        let settings = Settings::of(table).unwrap_or_else(|wrong| panic!("{wrong:?}"));
        let text = |part: Option<&[u8]>| part.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
        let mut records = Vec::new();
        RecordEncoder::new(&settings)?.each(&batch(table, rows), weights.map(Int8Array::from).as_ref(), |record| {
            records.push((text(record.key), text(record.value)));
            Ok(())
        })?;
        Ok(records)
    }

    fn record(key: &str, value: Option<&str>) -> Shown {
        (Some(key.to_owned()), value.map(str::to_owned))
    }

    #[test]
    fn an_upsert_is_a_record_under_its_key_and_a_removal_a_tombstone() {
        let table = declared(1, &[("changelog", "upsert")]);
        let rows = [(Some("a"), "eu", 1), (Some("b"), "us", 2), (Some("c"), "eu", 3)];
        assert_eq!(
            encoded(&table, &rows, Some(vec![1, -1, 1])).unwrap(),
            [
                record("b", None),
                record("a", Some(r#"{"user":"a","region":"eu","n":1}"#)),
                record("c", Some(r#"{"user":"c","region":"eu","n":3}"#)),
            ]
        );
        assert_eq!(encoded(&table, &rows, None).unwrap().len(), 3);
        let several = declared(2, &[("changelog", "upsert"), ("format", "csv"), ("key.fields", "region,user")]);
        let wanted = [record("us,b", None), record("eu,a", Some("a,eu,1"))];
        assert_eq!(encoded(&several, &rows[..2], Some(vec![1, -1])).unwrap(), wanted);
    }

    #[test]
    fn rows_that_no_key_could_remove_are_refused() {
        let nameless = [(None, "eu", 1)];
        let table = declared(1, &[("changelog", "upsert")]);
        for weights in [None, Some(vec![1]), Some(vec![-1])] {
            let why = encoded(&table, &nameless, weights).unwrap_err().to_string();
            assert!(why.contains("null in 1 rows"), "{why}");
        }
        let appended = declared(1, &[]);
        assert_eq!(encoded(&appended, &nameless, None).unwrap()[0].0, None);
        let why = encoded(&appended, &[(Some("a"), "eu", 1)], Some(vec![1])).unwrap_err().to_string();
        assert!(why.contains("'changelog'"), "{why}");
    }

    #[test]
    fn debezium_records_have_the_key_of_the_row_they_tell_of() {
        let rows = [(Some("a"), "eu", 1), (Some("a"), "us", 2)];
        let shown = |options: &[(&str, &str)], weights: Option<Vec<i8>>| {
            let table = declared(1, &[&[("changelog", "debezium")][..], options].concat());
            let op = |record: Shown| {
                let value: serde_json::Value = serde_json::from_str(&record.1.unwrap()).unwrap();
                format!("{} {}", record.0.unwrap_or_default(), value["op"].as_str().unwrap())
            };
            encoded(&table, &rows, weights).unwrap().into_iter().map(op).collect::<Vec<_>>()
        };
        assert_eq!(shown(&[], Some(vec![-1, 1])), ["a u"]);
        assert_eq!(shown(&[], None), ["a c", "a c"]);
        // An update that moves a row to another record key removes it under the old one.
        assert_eq!(shown(&[("key.fields", "region")], Some(vec![-1, 1])), ["eu d", "us c"]);
        assert_eq!(shown(&[("key.fields", "")], Some(vec![-1, 1])), [" u"]);
    }
}
