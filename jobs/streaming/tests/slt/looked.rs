//! A table store that needs none: rows of files, found by key as they are looked up.
//!
//! A table without a connector is read from the folder of its name, or of its option `name`.

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::row::{RowConverter, SortField};
use connectors::{
    Connector, Context, Error, Found, Lookup, OptionEntry, OptionInfo, Polled, Result, Sink, SourceReader, SplitStart,
    TableDef,
};
use std::time::Duration;

pub struct Looked;

fn failed(why: impl std::fmt::Display) -> Error {
    Error::Fatal(why.to_string())
}

impl Connector for Looked {
    fn name(&self) -> &'static str {
        "table"
    }

    fn doc(&self) -> &'static str {
        "files, looked up"
    }

    fn options(&self) -> &'static [OptionInfo] {
        &[]
    }

    fn is_source(&self) -> bool {
        false
    }

    fn is_sink(&self) -> bool {
        false
    }

    fn bounded(&self, _table: &TableDef) -> bool {
        true
    }

    fn splits(&self, _table: &TableDef, _context: &Context) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn open_source(
        &self,
        _table: &TableDef,
        _projection: &[usize],
        _splits: &[SplitStart],
        _context: &Context,
    ) -> Result<Box<dyn SourceReader>> {
        Err(failed("this table is only looked up"))
    }

    fn open_sink(&self, _table: &TableDef, _context: &Context) -> Result<Box<dyn Sink>> {
        Err(failed("this table is only looked up"))
    }

    fn open_lookup(
        &self,
        table: &TableDef,
        keys: &[usize],
        projection: &[usize],
        context: &Context,
    ) -> Result<Box<dyn Lookup>> {
        let files = connectors::find("files").ok_or_else(|| failed("there is no connector 'files'"))?;
        let option = |key: &str, value: &str| OptionEntry {
            key: key.to_string(),
            value: value.to_string(),
            key_span: None,
            value_span: None,
        };
        let path = table.option("name").unwrap_or(&table.name);
        let table = TableDef { options: vec![option("connector", "files"), option("path", path)], ..table.clone() };
        let splits = files.splits(&table, context)?.into_iter().map(|split| SplitStart { split, from: None });
        let all: Vec<usize> = (0..table.schema.fields().len()).collect();
        let mut reader = files.open_source(&table, &all, &splits.collect::<Vec<_>>(), context)?;
        let mut batches = Vec::new();
        loop {
            match reader.poll(Duration::from_millis(10))? {
                Polled::Batch { batch, .. } => batches.push(batch),
                Polled::End => break,
                Polled::SplitEnd { .. } | Polled::Idle => {}
            }
        }
        let rows = concat_batches(&table.schema, &batches).map_err(failed)?;
        let kinds = keys.iter().map(|key| SortField::new(table.schema.field(*key).data_type().clone()));
        let converter = RowConverter::new(kinds.collect()).map_err(failed)?;
        let keys = rows.project(keys).map_err(failed)?.columns().to_vec();
        Ok(Box::new(Rows { converter, keys, wanted: rows.project(projection).map_err(failed)? }))
    }
}

struct Rows {
    converter: RowConverter,
    keys: Vec<ArrayRef>,
    wanted: RecordBatch,
}

impl Lookup for Rows {
    fn get(&mut self, keys: &RecordBatch) -> Result<Found> {
        let asked = self.converter.convert_columns(keys.columns()).map_err(failed)?;
        let there = self.converter.convert_columns(&self.keys).map_err(failed)?;
        let (mut places, mut of) = (Vec::new(), Vec::new());
        for (number, key) in asked.iter().enumerate() {
            for (place, _) in there.iter().enumerate().filter(|(_, row)| *row == key) {
                places.push(place as u32);
                of.push(number as u32);
            }
        }
        let rows = take_record_batch(&self.wanted, &UInt32Array::from(places)).map_err(failed)?;
        Ok(Found { rows, keys: of })
    }
}
