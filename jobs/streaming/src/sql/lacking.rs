//! Tables that are declared without columns, to have those that their rows have where they are: `CREATE TABLE t WITH (…)`, or
//! with a list in which only other things stand: a WATERMARK, a PRIMARY KEY, computed and metadata columns.
//!
//! [`lacking`] finds them, whoever has their rows is asked, and [`completed`] writes the columns into the text. So a text is
//! asked for once, when it is settled, and means the same ever after.
//!
//! Invariant: what stands in the text stays as it is written; places in it are found again by [`Completed::place`].

use super::create::{Columns as Declared, column, options};
use super::cursor::{Cursor, Parsed};
use super::depth;
use super::statements::ColumnKind;
use super::target::{Defaults, OF_ENGINE};
use super::text::{Name, Positions, Span, Tok, tokenize};
use super::types::sql_name;
use connectors::{Columns, METADATA, TableDef};
use datafusion::sql::sqlparser::keywords::{
    ALL_KEYWORDS, ALL_KEYWORDS_INDEX, RESERVED_FOR_COLUMN_ALIAS, RESERVED_FOR_TABLE_ALIAS,
};
use datafusion::sql::sqlparser::tokenizer::Token;
use std::borrow::Cow;
use std::sync::Arc;

/// A table without columns.
#[derive(Clone, Debug)]
pub struct Lacking {
    /// Its name and options, without a schema.
    pub def: TableDef,
    /// Of its name.
    pub span: Span,
    place: Place,
    has_key: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Behind the name, where there is no list.
    Name(usize),
    /// In a list, before whatever else is in it.
    List { at: usize, is_empty: bool },
}

/// The tables of a text that lack their columns. What is wrong in it is told when it is read.
pub fn lacking(text: &str) -> Vec<Lacking> {
    // Most texts have none, and are not taken apart twice.
    let mut words = text.split_ascii_whitespace();
    if !words.any(|word| word.to_ascii_uppercase().contains("TABLE")) {
        return Vec::new();
    }
    depth::with_room(|| {
        let positions = Positions::new(text);
        let Ok(toks) = tokenize(&positions) else { return Vec::new() };
        let defaults = Defaults::of(&positions, &toks);
        let statements = toks.split(|tok| tok.is_token(&Token::SemiColon)).filter(|toks| !toks.is_empty());
        let found = statements.filter(|toks| depth::mistake(toks).is_none()).filter_map(|toks| {
            let mut cursor = Cursor::new(&positions, &defaults, toks, toks[toks.len() - 1].span.1);
            table(&mut cursor).ok().flatten()
        });
        found.collect()
    })
}

fn table(cursor: &mut Cursor<'_>) -> Parsed<Option<Lacking>> {
    if !cursor.accept(&["CREATE"]) {
        return Ok(None);
    }
    let _ = cursor.accept(&["TEMPORARY"]) || cursor.accept(&["TEMP"]);
    if !cursor.accept(&["TABLE"]) {
        return Ok(None);
    }
    cursor.accept(&["IF", "NOT", "EXISTS"]);
    let name = cursor.name("the table's name")?;
    let mut declared = Declared::default();
    let place = match cursor.peek().is_some_and(|tok| tok.is_token(&Token::LParen)) {
        false => Place::Name(name.span.1),
        true => {
            let at = cursor.here().1;
            let (items, close) = cursor.parenthesized()?;
            for (number, item) in items.iter().enumerate() {
                let end = items.get(number + 1).and_then(|next| next.first()).map_or(close, |tok: &Tok| tok.span.0);
                column(&mut cursor.part(item, end), &mut declared)?;
            }
            Place::List { at, is_empty: items.is_empty() }
        }
    };
    let (mut entries, mut partitioned_by, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    while !cursor.done() {
        if cursor.accept(&["PARTITIONED", "BY"]) {
            partitioned_by = cursor.names("a column's name")?;
        } else if cursor.accept(&["COMMENT"]) {
            cursor.at += 1;
        } else if cursor.accept(&["WITH"]) {
            entries = options(cursor, &mut errors)?;
        } else {
            // AS, or a mistake.
            return Ok(None);
        }
    }
    let metadata =
        |name: &Name| declared.metadata.iter().any(|entry| entry.key.strip_prefix(METADATA) == Some(&name.text));
    let has_columns =
        declared.columns.iter().any(|column| matches!(column.kind, ColumnKind::Physical(_)) && !metadata(&column.name));
    if has_columns || !errors.is_empty() {
        return Ok(None);
    }
    entries.extend(super::create::partitions(&partitioned_by));
    cursor.defaults.complete(&mut entries);
    entries.retain(|entry| entry.key != "late_rows" && !OF_ENGINE.contains(&entry.key.as_str()));
    let schema = Arc::new(arrow::datatypes::Schema::empty());
    let def = TableDef { name: name.text, schema, primary_key: Vec::new(), options: entries };
    Ok(Some(Lacking { def, span: name.span, place, has_key: !declared.primary_key.is_empty() }))
}

/// A text with the columns in it that it lacked.
#[derive(Clone, Debug)]
pub struct Completed<'a> {
    pub text: Cow<'a, str>,
    /// Where something was put in, as a place in the text before, and how long it is; in rising order.
    added: Vec<(usize, usize)>,
}

impl Completed<'_> {
    /// A place in it as one in the text before.
    pub fn place(&self, (from, to): Span) -> Span {
        let back = |at: usize| {
            let mut before = at;
            for (place, length) in &self.added {
                if before > *place {
                    before = (before - length.min(&(before - place))).max(*place);
                }
            }
            before
        };
        (back(from), back(to))
    }
}

/// The text with these columns in it. `found`: in the order of [`lacking`].
pub fn completed<'a>(text: &'a str, found: &[(Lacking, Columns)]) -> Completed<'a> {
    if found.is_empty() {
        return Completed { text: Cow::Borrowed(text), added: Vec::new() };
    }
    let (mut whole, mut at, mut added) = (String::with_capacity(text.len() + 64 * found.len()), 0, Vec::new());
    for (lacking, columns) in found {
        let list = declaration(columns, lacking.has_key);
        let (place, put_in) = match lacking.place {
            Place::Name(place) => (place, format!(" ({list})")),
            Place::List { at, is_empty: true } => (at, list),
            Place::List { at, is_empty: false } => (at, format!("{list}, ")),
        };
        whole.push_str(&text[at..place]);
        whole.push_str(&put_in);
        added.push((place, put_in.len()));
        at = place;
    }
    whole.push_str(&text[at..]);
    Completed { text: Cow::Owned(whole), added }
}

fn declaration(columns: &Columns, has_key: bool) -> String {
    let all = columns.columns.iter();
    let mut parts: Vec<String> = all.map(|(name, kind)| format!("{} {}", written(name), sql_name(kind))).collect();
    let key: Vec<Cow<'_, str>> = columns.primary_key.iter().map(|at| written(&columns.columns[*at].0)).collect();
    if !key.is_empty() && !has_key {
        parts.push(format!("PRIMARY KEY ({}) NOT ENFORCED", key.join(", ")));
    }
    parts.join(", ")
}

/// Words with which something else than a column begins in a list of them.
const BEGINNINGS: [&str; 5] = ["PRIMARY", "WATERMARK", "CONSTRAINT", "AS", "SELECT"];

fn is_reserved(name: &str) -> bool {
    let word = name.to_ascii_uppercase();
    let Ok(at) = ALL_KEYWORDS.binary_search(&word.as_str()) else { return BEGINNINGS.contains(&word.as_str()) };
    let keyword = ALL_KEYWORDS_INDEX[at];
    RESERVED_FOR_COLUMN_ALIAS.contains(&keyword)
        || RESERVED_FOR_TABLE_ALIAS.contains(&keyword)
        || BEGINNINGS.contains(&word.as_str())
}

/// A name as it is written, in quotes where it would be read as something else without.
pub(crate) fn written(name: &str) -> Cow<'_, str> {
    let mut chars = name.chars();
    let plain = chars.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !is_reserved(name);
    match plain {
        true => Cow::Borrowed(name),
        false => Cow::Owned(format!("\"{}\"", name.replace('"', "\"\""))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::parse;
    use arrow::datatypes::{DataType, Field, TimeUnit};

    fn timestamp() -> DataType {
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
    }

    fn columns(columns: &[(&str, DataType)], key: &[usize]) -> Columns {
        let columns = columns.iter().map(|(name, kind)| (name.to_string(), kind.clone())).collect();
        Columns { columns, primary_key: key.to_vec() }
    }

    fn names(text: &str) -> Vec<String> {
        lacking(text).into_iter().map(|lacking| lacking.def.name).collect()
    }

    #[test]
    fn tables_without_columns_are_found() {
        let text = "CREATE TABLE a WITH (connector = 'files', path = 'a.parquet');
            CREATE TEMPORARY TABLE b () WITH (connector = 'files', path = 'b');
            CREATE TABLE c (WATERMARK FOR ts AS ts - INTERVAL '1 second', n AS x + 1, PRIMARY KEY (x) NOT ENFORCED)
            PARTITIONED BY (day) WITH (connector = 'files', path = 'c', watermark.idle = '1s');
            CREATE TABLE d (at TIMESTAMP METADATA FROM 'timestamp') WITH (connector = 'kafka', topic = 'd');
            CREATE TABLE has (x BIGINT) WITH (connector = 'files', path = 'x');
            CREATE TABLE made AS SELECT 1 AS x;
            CREATE TABLE made2 WITH (connector = 'files', path = 'x') AS SELECT 1 AS x;
            CREATE VIEW v AS SELECT 1; SELECT 1;
            SET target.files.csv.header = 'false'";
        assert_eq!(names(text), ["a", "b", "c", "d"]);
        let found = lacking(text);
        let keys: Vec<&str> = found[2].def.options.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, ["connector", "path", "partitioned_by", "csv.header"]);
        assert_eq!(&text[found[2].span.0..found[2].span.1], "c");
        for wrong in ["CREATE TABLE", "CREATE TABLE a (", "CREATE TABLE a (x) WITH (", "'", "CREATE TABLE a (x BIGNIT)"]
        {
            assert_eq!(names(wrong), Vec::<String>::new(), "{wrong}");
        }
    }

    #[test]
    fn what_is_put_in_reads_as_it_is_meant() {
        let text = "CREATE TABLE a WITH (connector = 'blackhole');\nCREATE TABLE b (WATERMARK FOR ts AS ts) WITH (connector = \
                    'blackhole');\nCREATE TABLE c () WITH (connector = 'blackhole');";
        let within = DataType::Struct(
            vec![Field::new("select", DataType::Utf8, true), Field::new("x-y", timestamp(), true)].into(),
        );
        let list = DataType::List(Arc::new(Field::new_list_field(DataType::Int64, true)));
        let found = [
            columns(
                &[("id", DataType::Int64), ("order", DataType::Decimal128(20, 2)), ("a \"b\"", within), ("of", list)],
                &[0, 1],
            ),
            columns(&[("ts", timestamp()), ("on", DataType::Boolean)], &[]),
            columns(&[("m", super::super::types::map_of(DataType::Float64))], &[]),
        ];
        let found: Vec<(Lacking, Columns)> = lacking(text).into_iter().zip(found).collect();
        let completed = completed(text, &found);
        let script = parse(&completed.text).unwrap_or_else(|wrong| panic!("{wrong:?}\n{}", completed.text));
        for (table, (lacking, columns)) in script.tables().zip(&found) {
            assert_eq!(table.name.text, lacking.def.name);
            let fields = table.def.schema.fields().iter();
            let fields: Vec<(String, DataType)> =
                fields.map(|field| (field.name().clone(), field.data_type().clone())).collect();
            assert_eq!((fields, &table.def.primary_key), (columns.columns.clone(), &columns.primary_key));
            // Places are those of the text before.
            let (from, to) = completed.place(table.name.span);
            assert_eq!(&text[from..to], table.name.text);
        }
        let end = completed.text.len();
        assert_eq!(completed.place((end, end)), (text.len(), text.len()));
        let watermark = completed.text.find("WATERMARK").expect("it stays");
        assert_eq!(completed.place((watermark, watermark)).0, text.find("WATERMARK").expect("it is there"));
        let inside = completed.text.find("id BIGINT").expect("it was put in");
        assert_eq!(completed.place((inside, inside + 2)), (14, 14), "what was put in is at the place where it was");
    }
}
