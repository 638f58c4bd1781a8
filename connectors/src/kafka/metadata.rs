//! Columns that are not of a record's value: where it lies, when it was written, its key and its headers.
//!
//! Read, they are gathered beside the decoder, record by record, and become columns with the batch; records that did not
//! decode are left out of both. Written, they say where a record goes and what goes with it ([`Places`]).
//!
//! Invariant: the value of a record has no metadata column; formats see the table without them.

use super::fetched::Fetch;
use crate::api::{Error, MetadataInfo, Position, Result, TableDef};
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, Int32Array, Int64Array, MapArray, MapBuilder, MapFieldNames,
    RecordBatch, StringArray, StringBuilder, TimestampMicrosecondArray,
};
use arrow::compute::{cast, filter};
use arrow::datatypes::{DataType, Int64Type, Schema, TimeUnit, TimestampMicrosecondType};
use jobs::Diagnostic;
use std::sync::Arc;

pub static KNOWN: &[MetadataInfo] = &[
    info("topic", "VARCHAR", true, "the topic; a sink writes there, and to the table's own where it is null"),
    info("partition", "INT|BIGINT", true, "the partition; a sink lets the key decide where it is null"),
    info("timestamp", "TIMESTAMP", true, "the record's time; a sink takes now where it is null"),
    info("headers", "MAP<VARCHAR, VARBINARY|VARCHAR>", true, "the headers; of two with one name the last"),
    info("offset", "BIGINT", false, "the place in the partition"),
    info("timestamp-type", "VARCHAR", false, "whether the time is CreateTime or LogAppendTime"),
    info("key", "VARBINARY|VARCHAR", false, "the record's key; a sink writes that of option 'key.fields'"),
];

const fn info(name: &'static str, kind: &'static str, writable: bool, doc: &'static str) -> MetadataInfo {
    MetadataInfo { name, kind, writable, doc }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Topic,
    Partition,
    Timestamp,
    Headers,
    Offset,
    TimestampType,
    Key,
}

impl Kind {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "topic" => Self::Topic,
            "partition" => Self::Partition,
            "timestamp" => Self::Timestamp,
            "headers" => Self::Headers,
            "offset" => Self::Offset,
            "timestamp-type" => Self::TimestampType,
            "key" => Self::Key,
            _ => return None,
        })
    }

    fn fits(self, data_type: &DataType) -> bool {
        match self {
            Self::Topic | Self::TimestampType => *data_type == DataType::Utf8,
            Self::Partition => matches!(data_type, DataType::Int32 | DataType::Int64),
            Self::Offset => *data_type == DataType::Int64,
            Self::Timestamp => matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond, _)),
            Self::Key => matches!(data_type, DataType::Utf8 | DataType::Binary),
            Self::Headers => match data_type {
                DataType::Map(entries, false) => match entries.data_type() {
                    DataType::Struct(entry) => {
                        *entry[0].data_type() == DataType::Utf8
                            && matches!(entry[1].data_type(), DataType::Utf8 | DataType::Binary)
                    }
                    _ => false,
                },
                _ => false,
            },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// In the table's schema.
    pub at: usize,
    pub name: String,
    pub kind: Kind,
    pub data_type: DataType,
    /// Declared VIRTUAL, or such as no sink writes.
    pub read_only: bool,
}

/// The metadata columns of a table, and the table without them.
pub fn split(table: &TableDef) -> std::result::Result<(TableDef, Vec<Column>), Vec<Diagnostic>> {
    let (mut columns, mut wrong) = (Vec::new(), Vec::new());
    for (at, entry) in table.metadata() {
        let field = table.schema.field(at);
        let mut words = entry.value.split_whitespace();
        let name = words.next().unwrap_or_default();
        let Some((kind, info)) = Kind::of(name).zip(KNOWN.iter().find(|info| info.name == name)) else {
            // Told by the registry, which checks names.
            continue;
        };
        let mut say = |text: String, help: String| {
            let mut mistake = Diagnostic::new(text).help(help);
            mistake.span = entry.value_span;
            wrong.push(mistake);
        };
        if !kind.fits(field.data_type()) {
            say(
                format!("column '{}' holds metadata '{name}', which is not of its type", field.name()),
                format!("declare it as {}", info.kind.replace('|', " or ")),
            );
        }
        if table.primary_key.contains(&at) {
            say(
                format!("column '{}' holds metadata and cannot be of the primary key", field.name()),
                "a key is of the record's value".to_owned(),
            );
        }
        let read_only = !info.writable || words.any(|word| word.eq_ignore_ascii_case("VIRTUAL"));
        columns.push(Column { at, name: field.name().clone(), kind, data_type: field.data_type().clone(), read_only });
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    columns.sort_by_key(|column| column.at);
    let of_value: Vec<usize> =
        (0..table.schema.fields().len()).filter(|at| columns.iter().all(|column| column.at != *at)).collect();
    let fields: Vec<_> = of_value.iter().map(|at| Arc::clone(&table.schema.fields()[*at])).collect();
    let place = |at: &usize| of_value.iter().position(|value| value == at);
    let values = TableDef {
        schema: Arc::new(Schema::new(fields)),
        primary_key: table.primary_key.iter().filter_map(place).collect(),
        ..table.clone()
    };
    Ok((values, columns))
}

/// The metadata of the records of one batch.
pub struct Gathered {
    wanted: Vec<(Kind, DataType)>,
    positions: Vec<Position>,
    /// Milliseconds, and whether they are the broker's.
    timestamps: Vec<Option<(i64, bool)>>,
    keys: Option<BinaryBuilder>,
    headers: Option<MapBuilder<StringBuilder, BinaryBuilder>>,
    bytes: usize,
}

impl Gathered {
    pub fn new(wanted: Vec<(Kind, DataType)>) -> Self {
        let any = |kind| wanted.iter().any(|(wanted, _)| *wanted == kind);
        let names = MapFieldNames { entry: "entries".to_owned(), key: "key".to_owned(), value: "value".to_owned() };
        Self {
            positions: Vec::new(),
            timestamps: Vec::new(),
            keys: any(Kind::Key).then(BinaryBuilder::new),
            headers: any(Kind::Headers)
                .then(|| MapBuilder::new(Some(names), StringBuilder::new(), BinaryBuilder::new())),
            bytes: 0,
            wanted,
        }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Why the metadata of this record does not fit its columns, if it does not.
    pub fn unfit(&self, fetch: &Fetch) -> Option<String> {
        let is_text = |bytes: Option<&[u8]>| bytes.is_none_or(|bytes| std::str::from_utf8(bytes).is_ok());
        for (kind, data_type) in &self.wanted {
            match (kind, data_type) {
                (Kind::Key, DataType::Utf8) if !is_text(fetch.key()) => {
                    return Some("the record's key is not UTF-8 text; declare its column as VARBINARY".to_owned());
                }
                (Kind::Headers, DataType::Map(entries, _)) => {
                    let DataType::Struct(entry) = entries.data_type() else { continue };
                    let texts = *entry[1].data_type() == DataType::Utf8;
                    let mut unfit = None;
                    fetch.headers(|name, value| {
                        if !is_text(Some(name)) || (texts && !is_text(value)) {
                            let name = String::from_utf8_lossy(name).into_owned();
                            unfit = Some(format!(
                                "header '{name}' is not UTF-8 text; declare its column as MAP<VARCHAR, VARBINARY>"
                            ));
                        }
                    });
                    if unfit.is_some() {
                        return unfit;
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// Of a record that is given to the decoder, too.
    pub fn push(&mut self, fetch: &Fetch) {
        if self.wanted.is_empty() {
            return;
        }
        self.positions.push(fetch.offset() as Position);
        self.timestamps.push(fetch.timestamp());
        self.bytes += 24;
        if let Some(keys) = &mut self.keys {
            keys.append_option(fetch.key());
            self.bytes += fetch.key().map_or(0, <[u8]>::len);
        }
        if let Some(map) = &mut self.headers {
            let mut headers: Vec<(&[u8], Option<&[u8]>)> = Vec::new();
            fetch.headers(|name, value| {
                // A map has a name once.
                headers.retain(|(earlier, _)| *earlier != name);
                headers.push((name, value));
            });
            for (name, value) in headers {
                map.keys().append_value(String::from_utf8_lossy(name));
                map.values().append_option(value);
                self.bytes += name.len() + value.map_or(0, <[u8]>::len);
            }
            // Keys and values are appended in pairs, so this cannot fail.
            let _ = map.append(true);
        }
    }

    /// One column for each that is wanted, less the records at `rejected`, which rise.
    pub fn finish(
        &mut self,
        topic: &str,
        partition: i32,
        rejected: impl Iterator<Item = Position>,
    ) -> std::result::Result<Vec<ArrayRef>, arrow::error::ArrowError> {
        let mut rejected = rejected.peekable();
        let kept: Vec<bool> = self.positions.iter().map(|position| rejected.next_if_eq(position).is_none()).collect();
        let whole = kept.iter().all(|kept| *kept);
        let kept = BooleanArray::from(kept);
        let n = self.positions.len();
        let keys: Option<ArrayRef> = self.keys.as_mut().map(|keys| Arc::new(keys.finish()) as ArrayRef);
        let headers: Option<ArrayRef> = self.headers.as_mut().map(|headers| Arc::new(headers.finish()) as ArrayRef);
        let mut columns = Vec::with_capacity(self.wanted.len());
        for (kind, data_type) in &self.wanted {
            let times = || self.timestamps.iter();
            let column: ArrayRef = match kind {
                Kind::Topic => Arc::new(StringArray::from_iter_values(std::iter::repeat_n(topic, n))),
                Kind::Partition => Arc::new(Int32Array::from_value(partition, n)),
                Kind::Offset => Arc::new(Int64Array::from_iter_values(self.positions.iter().map(|at| *at as i64))),
                Kind::Timestamp => Arc::new(
                    times()
                        .map(|time| time.map(|(ms, _)| ms.saturating_mul(1000)))
                        .collect::<TimestampMicrosecondArray>(),
                ),
                Kind::TimestampType => Arc::new(
                    times()
                        .map(|time| time.map(|(_, of_log)| if of_log { "LogAppendTime" } else { "CreateTime" }))
                        .collect::<StringArray>(),
                ),
                Kind::Key => keys.clone().unwrap_or_else(|| arrow::array::new_null_array(&DataType::Binary, n)),
                Kind::Headers => headers.clone().unwrap_or_else(|| arrow::array::new_null_array(data_type, n)),
            };
            let column = if column.data_type() == data_type { column } else { cast(&column, data_type)? };
            columns.push(if whole { column } else { filter(&column, &kept)? });
        }
        self.positions.clear();
        self.timestamps.clear();
        self.bytes = 0;
        Ok(columns)
    }
}

/// Where a record goes and what goes with it, beside key and value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place<'a> {
    /// `None`: the table's own.
    pub topic: Option<&'a str>,
    pub partition: Option<i32>,
    /// Milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    pub headers: Vec<(&'a str, Option<&'a [u8]>)>,
}

/// The places of the rows of a batch.
pub struct Places {
    topic: Option<StringArray>,
    partition: Option<Int64Array>,
    timestamp: Option<TimestampMicrosecondArray>,
    headers: Option<MapArray>,
    table: String,
}

impl Places {
    /// From a batch of all of the table's columns.
    pub fn of(table: &str, columns: &[Column], batch: &RecordBatch) -> Result<Self> {
        let failed = |why| Error::Fatal(format!("metadata of table '{table}' cannot be written: {why}"));
        let mut places = Self { topic: None, partition: None, timestamp: None, headers: None, table: table.to_owned() };
        for column in columns {
            let values = batch.column(column.at);
            match column.kind {
                Kind::Topic => {
                    places.topic = Some(cast(values, &DataType::Utf8).map_err(failed)?.as_string::<i32>().clone());
                }
                Kind::Partition => {
                    let numbers = cast(values, &DataType::Int64).map_err(failed)?;
                    places.partition = Some(numbers.as_primitive::<Int64Type>().clone());
                }
                Kind::Timestamp => {
                    let times = cast(values, &DataType::Timestamp(TimeUnit::Microsecond, None)).map_err(failed)?;
                    places.timestamp = Some(times.as_primitive::<TimestampMicrosecondType>().clone());
                }
                Kind::Headers => {
                    let Some(map) = values.as_map_opt() else {
                        return Err(failed(arrow::error::ArrowError::CastError("headers are no map".to_owned())));
                    };
                    places.headers = Some(map.clone());
                }
                Kind::Offset | Kind::TimestampType | Kind::Key => {}
            }
        }
        Ok(places)
    }

    pub fn get(&self, row: usize) -> Result<Place<'_>> {
        let unfit =
            |what: String| Error::Fatal(format!("table '{}' is to write {what}; mend the query's column", self.table));
        let mut place = Place::default();
        if let Some(topics) = self.topic.as_ref().filter(|topics| topics.is_valid(row)) {
            let topic = topics.value(row);
            if !super::topics::may_be_named(topic) {
                return Err(unfit(format!("to topic '{topic}', which cannot be the name of one")));
            }
            place.topic = Some(topic);
        }
        if let Some(numbers) = self.partition.as_ref().filter(|numbers| numbers.is_valid(row)) {
            let number = i32::try_from(numbers.value(row)).ok().filter(|number| *number >= 0);
            place.partition = Some(number.ok_or_else(|| unfit(format!("to partition {}", numbers.value(row))))?);
        }
        if let Some(times) = self.timestamp.as_ref().filter(|times| times.is_valid(row)) {
            let ms = times.value(row).div_euclid(1000);
            if ms <= 0 {
                // Kafka's clients take such a time for none.
                return Err(unfit(format!("a record with timestamp {ms} ms, and Kafka's begin after 1970")));
            }
            place.timestamp_ms = Some(ms);
        }
        if let Some(headers) = self.headers.as_ref().filter(|headers| headers.is_valid(row)) {
            let offsets = headers.value_offsets();
            let entries = offsets[row] as usize..offsets[row + 1] as usize;
            let names = headers.keys().as_string::<i32>();
            for at in entries {
                let value = headers.values().is_valid(at).then(|| match headers.values().data_type() {
                    DataType::Utf8 => headers.values().as_string::<i32>().value(at).as_bytes(),
                    _ => headers.values().as_binary::<i32>().value(at),
                });
                place.headers.push((names.value(at), value));
            }
        }
        Ok(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::table;
    use arrow::datatypes::Field;

    fn headers_type() -> DataType {
        let entry = vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Binary, true)];
        DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entry.into()), false)), false)
    }

    #[test]
    fn a_table_is_parted_into_value_and_metadata() {
        let columns =
            [("at", DataType::Int64), ("user", DataType::Utf8), ("h", headers_type()), ("n", DataType::Int64)];
        let mut declared =
            table(&columns, &[("metadata.at", "offset"), ("metadata.h", "headers VIRTUAL"), ("format", "json")]);
        declared.primary_key = vec![1];
        let (values, metadata) = split(&declared).unwrap();
        let names: Vec<&str> = values.schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!((names, values.primary_key), (vec!["user", "n"], vec![0]));
        let told: Vec<_> = metadata.iter().map(|column| (column.at, column.kind, column.read_only)).collect();
        assert_eq!(told, [(0, Kind::Offset, true), (2, Kind::Headers, true)]);
        declared.primary_key = vec![0];
        assert!(split(&declared).unwrap_err()[0].message.contains("primary key"));
        let wrong = split(&table(&[("at", DataType::Utf8)], &[("metadata.at", "offset")])).unwrap_err();
        assert_eq!(wrong[0].help.as_deref(), Some("declare it as BIGINT"));
    }

    #[test]
    fn rows_say_where_they_go() {
        let columns = [
            ("t", DataType::Utf8),
            ("p", DataType::Int32),
            ("ts", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
            ("h", headers_type()),
        ];
        let options = [
            ("metadata.t", "topic"),
            ("metadata.p", "partition"),
            ("metadata.ts", "timestamp"),
            ("metadata.h", "headers"),
        ];
        let declared = table(&columns, &options);
        let (_, metadata) = split(&declared).unwrap();
        let names = MapFieldNames { entry: "entries".to_owned(), key: "key".to_owned(), value: "value".to_owned() };
        let mut headers = MapBuilder::new(Some(names), StringBuilder::new(), BinaryBuilder::new());
        headers.keys().append_value("trace");
        headers.values().append_value(b"x");
        headers.append(true).unwrap();
        headers.append(false).unwrap();
        let batch = |topic: &str, partition: i32, us: i64, headers: ArrayRef| {
            let arrays: Vec<ArrayRef> = vec![
                Arc::new(StringArray::from(vec![Some(topic), None])),
                Arc::new(Int32Array::from(vec![Some(partition), None])),
                Arc::new(TimestampMicrosecondArray::from(vec![Some(us), None]).with_timezone("UTC")),
                headers,
            ];
            RecordBatch::try_new(Arc::clone(&declared.schema), arrays).unwrap()
        };
        let headers: ArrayRef = Arc::new(headers.finish());
        let places = Places::of("t", &metadata, &batch("a", 2, 5_000, headers.clone())).unwrap();
        let all = Place {
            topic: Some("a"),
            partition: Some(2),
            timestamp_ms: Some(5),
            headers: vec![("trace", Some(b"x".as_slice()))],
        };
        assert_eq!(places.get(0).unwrap(), all);
        assert_eq!(places.get(1).unwrap(), Place::default());
        for (topic, partition, us) in [("a b", 2, 5_000), ("a", -1, 5_000), ("a", 2, -5)] {
            let places = Places::of("t", &metadata, &batch(topic, partition, us, headers.clone())).unwrap();
            assert!(places.get(0).is_err(), "{topic} {partition} {us}");
        }
    }
}
