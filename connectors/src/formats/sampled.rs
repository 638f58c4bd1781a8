//! The columns of JSON and CSV records, from some of them.
//!
//! A column has the narrowest type that held all of its values: BOOLEAN, BIGINT, DOUBLE, DATE, TIMESTAMP, else text; in JSON
//! also a structure of the fields that objects had, and a list. One that had no value is text.
//!
//! Invariant: whatever was looked at is read by these columns. What was not may not be, and is a bad record then.

use super::timestamp;
use crate::Columns;
use arrow::datatypes::{DataType, Field, TimeUnit};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::sync::Arc;

/// What a value may be; each of the plain ones holds those before it on its side.
#[derive(Clone, Debug, PartialEq)]
enum Kind {
    /// Nothing was seen.
    Unknown,
    Boolean,
    Whole,
    Number,
    Date,
    Timestamp,
    Text,
    Object(Fields),
    List(Box<Kind>),
}

type Fields = Vec<(String, Kind)>;

/// Some records of a table, as far as they tell its columns.
#[derive(Debug, Default)]
pub struct Sample {
    fields: Fields,
    records: usize,
}

impl Sample {
    pub fn len(&self) -> usize {
        self.records
    }

    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// A line of JSON. One that is no object says nothing: it is a bad record when it is read.
    pub fn json(&mut self, line: &[u8]) -> Result<(), String> {
        let fields = match serde_json::from_slice(line) {
            Ok(Kind::Object(fields)) => fields,
            Err(why) if why.is_data() => return Err(format!("a value {why}")),
            Ok(_) | Err(_) => return Ok(()),
        };
        for (name, kind) in fields {
            learn(&mut self.fields, &name, kind).map_err(|why| format!("column '{name}' {why}"))?;
        }
        self.records += 1;
        Ok(())
    }

    /// A line of CSV, cut into its values. `names`: of the columns.
    pub fn csv<'a>(&mut self, names: &[String], values: impl IntoIterator<Item = &'a str>) {
        for (name, value) in names.iter().zip(values) {
            let kind = if value.is_empty() { Kind::Unknown } else { of_text(value) };
            let whole = join(field(&mut self.fields, name), kind).unwrap_or(Kind::Text);
            *field(&mut self.fields, name) = whole;
        }
        self.records += 1;
    }

    pub fn columns(self) -> Columns {
        let columns = self.fields.into_iter().map(|(name, kind)| (name, data_type(kind))).collect();
        Columns { columns, primary_key: Vec::new() }
    }
}

fn field<'a>(fields: &'a mut Fields, name: &str) -> &'a mut Kind {
    let at = fields.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
        fields.push((name.to_owned(), Kind::Unknown));
        fields.len() - 1
    });
    &mut fields[at].1
}

fn learn(fields: &mut Fields, name: &str, kind: Kind) -> Result<(), String> {
    let known = field(fields, name);
    *known = join(known, kind)?;
    Ok(())
}

/// The kind that holds both.
fn join(known: &Kind, kind: Kind) -> Result<Kind, String> {
    Ok(match (known.clone(), kind) {
        (known, kind) if known == kind => known,
        (Kind::Unknown, other) | (other, Kind::Unknown) => other,
        (Kind::Whole, Kind::Number) | (Kind::Number, Kind::Whole) => Kind::Number,
        (Kind::Date, Kind::Timestamp) | (Kind::Timestamp, Kind::Date) => Kind::Timestamp,
        (Kind::Date | Kind::Timestamp | Kind::Text, Kind::Date | Kind::Timestamp | Kind::Text) => Kind::Text,
        (Kind::Object(mut fields), Kind::Object(others)) => {
            for (name, kind) in others {
                learn(&mut fields, &name, kind).map_err(|why| format!("has a field '{name}' that {why}"))?;
            }
            Kind::Object(fields)
        }
        (Kind::List(item), Kind::List(other)) => Kind::List(Box::new(join(&item, *other)?)),
        (known, kind) => return Err(format!("is {} in one record and {} in another", known.name(), kind.name())),
    })
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OfJson)
    }
}

/// Without a value in between, in which the fields of an object would lose their order.
struct OfJson;

impl<'de> Visitor<'de> for OfJson {
    type Value = Kind;

    fn expecting(&self, text: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        text.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Kind, E> {
        Ok(Kind::Unknown)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Kind, E> {
        Ok(Kind::Boolean)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Kind, E> {
        Ok(Kind::Whole)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Kind, E> {
        Ok(if i64::try_from(number).is_ok() { Kind::Whole } else { Kind::Number })
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Kind, E> {
        Ok(Kind::Number)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Kind, E> {
        Ok(of_time(text).unwrap_or(Kind::Text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Kind, A::Error> {
        let mut whole = Kind::Unknown;
        while let Some(item) = items.next_element::<Kind>()? {
            whole = join(&whole, item).map_err(|why| A::Error::custom(format!("has an item that {why}")))?;
        }
        Ok(Kind::List(Box::new(whole)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Kind, A::Error> {
        let mut fields = Fields::new();
        while let Some((name, kind)) = entries.next_entry::<String, Kind>()? {
            *field(&mut fields, &name) = kind;
        }
        Ok(Kind::Object(fields))
    }
}

fn of_text(text: &str) -> Kind {
    if ["true", "false"].iter().any(|word| text.eq_ignore_ascii_case(word)) {
        return Kind::Boolean;
    }
    // A number that would come back otherwise, such as 007, is a name of something.
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = digits.as_bytes().first().is_some_and(u8::is_ascii_digit)
        && !(digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0."));
    if plain && text.parse::<i64>().is_ok() {
        return Kind::Whole;
    }
    if plain && text.parse::<f64>().is_ok_and(f64::is_finite) {
        return Kind::Number;
    }
    of_time(text).unwrap_or(Kind::Text)
}

fn of_time(text: &str) -> Option<Kind> {
    timestamp::parse(text).map(|_| if text.trim().len() == 10 { Kind::Date } else { Kind::Timestamp })
}

impl Kind {
    fn name(&self) -> &'static str {
        match self {
            Self::Unknown => "nothing",
            Self::Boolean => "true or false",
            Self::Whole | Self::Number => "a number",
            Self::Date | Self::Timestamp => "a time",
            Self::Text => "text",
            Self::Object(_) => "an object",
            Self::List(_) => "a list",
        }
    }
}

fn data_type(kind: Kind) -> DataType {
    match kind {
        Kind::Boolean => DataType::Boolean,
        Kind::Whole => DataType::Int64,
        Kind::Number => DataType::Float64,
        Kind::Date => DataType::Date32,
        Kind::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Kind::Object(fields) if !fields.is_empty() => {
            DataType::Struct(fields.into_iter().map(|(name, kind)| Field::new(name, data_type(kind), true)).collect())
        }
        Kind::List(item) => DataType::List(Arc::new(Field::new_list_field(data_type(*item), true))),
        Kind::Unknown | Kind::Text | Kind::Object(_) => DataType::Utf8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(lines: &[&str]) -> Result<Vec<(String, DataType)>, String> {
        let mut sample = Sample::default();
        lines.iter().try_for_each(|line| sample.json(line.as_bytes()))?;
        Ok(sample.columns().columns)
    }

    fn csv(rows: &[&str]) -> Vec<DataType> {
        let names: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        let mut sample = Sample::default();
        rows.iter().for_each(|row| sample.csv(&names, row.split(',')));
        sample.columns().columns.into_iter().map(|(_, kind)| kind).collect()
    }

    fn timestamp() -> DataType {
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
    }

    #[test]
    fn objects_tell_columns_in_their_order() {
        let found = json(&[
            r#"{"z": 1, "a": null, "day": "2026-01-31", "in": {"x": true}, "of": []}"#,
            "no json",
            "[1]",
            r#"{"z": 1.5, "day": "2026-01-31T12:00:00Z", "in": {"y": "text"}, "of": [1, null], "new": 18446744073709551615}"#,
        ]);
        let inner = vec![Field::new("x", DataType::Boolean, true), Field::new("y", DataType::Utf8, true)];
        let list = DataType::List(Arc::new(Field::new_list_field(DataType::Int64, true)));
        let expected = [
            ("z", DataType::Float64),
            ("a", DataType::Utf8),
            ("day", timestamp()),
            ("in", DataType::Struct(inner.into())),
            ("of", list),
            ("new", DataType::Float64),
        ];
        assert_eq!(found.expect("they agree"), expected.map(|(name, kind)| (name.to_owned(), kind)).to_vec());
    }

    #[test]
    fn values_of_which_no_column_holds_all_are_told() {
        let told = |lines: &[&str]| json(lines).expect_err("no column holds both");
        assert_eq!(told(&[r#"{"a": 1}"#, r#"{"a": "x"}"#]), "column 'a' is a number in one record and text in another");
        let nested = told(&[r#"{"a": {"b": 1}}"#, r#"{"a": {"b": [1]}}"#]);
        assert_eq!(nested, "column 'a' has a field 'b' that is a number in one record and a list in another");
        assert!(
            told(&[r#"{"a": [1, "x"]}"#]).contains("has an item that is a number in one record and text in another")
        );
    }

    #[test]
    fn values_of_csv_are_what_they_read_as() {
        use DataType::{Boolean, Date32, Float64, Int64, Utf8};
        assert_eq!(csv(&["1,true,2026-01-01", "-2,FALSE,2026-01-02"]), [Int64, Boolean, Date32]);
        assert_eq!(csv(&["1,,2026-01-01", "0.5,,2026-01-01 10:00:00"]), [Float64, Utf8, timestamp()]);
        assert_eq!(csv(&["007,1,x", "1,yes,2026-01-01"]), [Utf8, Utf8, Utf8], "a name is not a number");
        assert_eq!(csv(&["1e3,nan,inf"]), [Float64, Utf8, Utf8]);
    }
}
