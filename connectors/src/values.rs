//! The rows of a VALUES in a query, which the query itself holds.
//!
//! No file declares such a table: it is made where a query is planned, and so is not among those that are listed.

use crate::{
    Connector, Context, Delivery, Error, OptionEntry, OptionInfo, Polled, Position, Result, Sink, SourceReader,
    SplitStart, TableDef,
};
use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use jobs::Diagnostic;
use std::fmt::Write;
use std::time::Duration;

pub static CONNECTOR: ValuesConnector = ValuesConnector;

const NAME: &str = "values";
const ROWS: &str = "rows";
/// Rows of one batch: few enough to be kept once more, enough to be worth a batch.
const BATCH_ROWS: usize = 4096;

static OPTIONS: [OptionInfo; 1] =
    [OptionInfo { name: ROWS, kind: "text", default: None, required: true, doc: "the rows, as Arrow writes them" }];

/// A table that holds these rows, which any task reads off its declaration.
pub fn values(rows: &RecordBatch) -> Result<TableDef> {
    let unfit = |why: arrow::error::ArrowError| Error::Fatal(format!("VALUES cannot be kept: {why}"));
    let mut writer = StreamWriter::try_new(Vec::new(), rows.schema_ref()).map_err(unfit)?;
    writer.write(rows).map_err(unfit)?;
    let bytes = writer.into_inner().map_err(unfit)?;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    let entry = |key: &str, value: String| OptionEntry { key: key.to_owned(), value, key_span: None, value_span: None };
    Ok(TableDef {
        name: NAME.to_owned(),
        schema: rows.schema(),
        primary_key: Vec::new(),
        options: vec![entry("connector", NAME.to_owned()), entry(ROWS, text)],
    })
}

fn read(table: &TableDef) -> Result<RecordBatch> {
    let unfit = |why: String| Error::Fatal(format!("the rows of VALUES cannot be read: {why}"));
    let text = table.option(ROWS).unwrap_or_default().as_bytes();
    let digit = |digit: u8| char::from(digit).to_digit(16).map(|digit| digit as u8);
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = text.chunks(2).map(byte).collect();
    let bytes = bytes.ok_or_else(|| unfit("they are not in hexadecimal digits".to_owned()))?;
    let mut reader = StreamReader::try_new(bytes.as_slice(), None).map_err(|why| unfit(why.to_string()))?;
    match reader.next() {
        Some(rows) => rows.map_err(|why| unfit(why.to_string())),
        None => Err(unfit("there are none".to_owned())),
    }
}

#[derive(Debug)]
pub struct ValuesConnector;

impl Connector for ValuesConnector {
    fn name(&self) -> &'static str {
        NAME
    }

    fn doc(&self) -> &'static str {
        "rows that a query holds itself"
    }

    fn options(&self) -> &'static [OptionInfo] {
        &OPTIONS
    }

    fn is_source(&self) -> bool {
        true
    }

    fn is_sink(&self) -> bool {
        false
    }

    fn check(&self, table: &TableDef) -> Vec<Diagnostic> {
        let error = Diagnostic::new(format!("table '{}' cannot be declared with connector 'values'", table.name));
        vec![error.help("write the rows where they are read: FROM (VALUES (1, 'a'), …) AS t (id, name)")]
    }

    fn bounded(&self, _table: &TableDef) -> bool {
        true
    }

    fn delivery(&self, _table: &TableDef) -> Delivery {
        Delivery::ExactlyOnce
    }

    fn splits(&self, _table: &TableDef, _context: &Context) -> Result<Vec<String>> {
        Ok(vec!["0".to_owned()])
    }

    fn open_source(
        &self,
        table: &TableDef,
        projection: &[usize],
        splits: &[SplitStart],
        _context: &Context,
    ) -> Result<Box<dyn SourceReader>> {
        let rows = read(table)?;
        let rows = rows.project(projection).map_err(|why| Error::Fatal(format!("VALUES lacks a column: {why}")))?;
        let next = splits.first().map(|start| start.from.unwrap_or_default().min(rows.num_rows() as Position));
        Ok(Box::new(ValuesReader { rows, next }))
    }

    fn open_sink(&self, table: &TableDef, _context: &Context) -> Result<Box<dyn Sink>> {
        Err(Error::Fatal(format!("table '{}' has connector 'values', which cannot be written", table.name)))
    }
}

struct ValuesReader {
    rows: RecordBatch,
    /// Where to go on; nothing where another slice reads them, and when the end was told.
    next: Option<Position>,
}

impl SourceReader for ValuesReader {
    fn poll(&mut self, _wait: Duration) -> Result<Polled> {
        let Some(from) = self.next else { return Ok(Polled::End) };
        let n_left = self.rows.num_rows() - from as usize;
        if n_left == 0 {
            self.next = None;
            return Ok(Polled::SplitEnd { split: 0 });
        }
        let batch = self.rows.slice(from as usize, n_left.min(BATCH_ROWS));
        let next = from + batch.num_rows() as Position;
        self.next = Some(next);
        Ok(Polled::Batch { split: 0, batch, next, bad: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use std::sync::Arc;

    #[test]
    fn rows_come_back_from_where_one_stopped() {
        let schema = Schema::new(vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Utf8, true)]);
        let a = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]));
        let b = Arc::new(StringArray::from(vec!["x", "y", "z"]));
        let rows = RecordBatch::try_new(Arc::new(schema), vec![a, b]).expect("rows");
        let table = values(&rows).expect("a table");
        let context = crate::testing::context(std::path::Path::new("."));
        for (from, wanted) in [(None, 3), (Some(2), 1), (Some(3), 0)] {
            let splits = [SplitStart { split: "0".into(), from }];
            let mut reader = CONNECTOR.open_source(&table, &[1, 0], &splits, &context).expect("a reader");
            let mut found = 0;
            loop {
                match reader.poll(Duration::ZERO).expect("no error") {
                    Polled::Batch { batch, .. } => {
                        assert_eq!(batch.schema().field(0).name(), "b");
                        found += batch.num_rows();
                    }
                    Polled::SplitEnd { .. } => {}
                    Polled::Idle => panic!("it never waits"),
                    Polled::End => break,
                }
            }
            assert_eq!(found, wanted, "from {from:?}");
        }
        let mut none = CONNECTOR.open_source(&table, &[0], &[], &context).expect("a reader");
        assert!(matches!(none.poll(Duration::ZERO), Ok(Polled::End)));
    }
}
