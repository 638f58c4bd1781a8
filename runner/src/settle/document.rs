//! A TOML or YAML text as one tree in which every key and value knows where it stands.
//!
//! Promises that what follows need not care which of the two languages it was. Does not know what any key means.

use jobs::Diagnostic;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::fmt;
use toml::de::{DeTable, DeValue};

/// A byte range of the file's text.
pub type Span = (usize, usize);

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub span: Span,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Nothing,
    Boolean(bool),
    Integer(i64),
    Number(f64),
    Text(String),
    List(Vec<Node>),
    Table(Vec<Entry>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: String,
    pub key_span: Span,
    pub node: Node,
}

impl Value {
    /// For error texts: what a person would call it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Boolean(_) => "a boolean",
            Self::Integer(_) => "a whole number",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// Reads TOML; all syntax errors at once.
pub fn from_toml(text: &str) -> Result<Node, Vec<Diagnostic>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        let span = (table.span().start, table.span().end);
        return Ok(Node { span, value: toml_table(table.into_inner()) });
    }
    Err(errors
        .iter()
        .map(|error| {
            let diagnostic = Diagnostic::new(error.message().trim().replace('\n', ", "));
            match error.span() {
                Some(span) => diagnostic.at((span.start, span.end)),
                None => diagnostic,
            }
        })
        .collect())
}

fn toml_table(table: DeTable<'_>) -> Value {
    let mut entries: Vec<Entry> = table
        .into_iter()
        .map(|(key, value)| {
            let (key_span, span) = (key.span(), value.span());
            Entry {
                key: key.into_inner().into_owned(),
                key_span: (key_span.start, key_span.end),
                node: Node { span: (span.start, span.end), value: toml_value(value.into_inner()) },
            }
        })
        .collect();
    // The parser sorts by key; mistakes are told in the order of the file.
    entries.sort_by_key(|entry| entry.key_span);
    Value::Table(entries)
}

fn toml_value(value: DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(whole) => Value::Integer(whole),
            Err(_) => Value::Number(number.as_str().parse().unwrap_or(f64::NAN)),
        },
        DeValue::Float(number) => Value::Number(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(truth) => Value::Boolean(truth),
        DeValue::Datetime(time) => Value::Text(time.to_string()),
        DeValue::Array(items) => Value::List(
            items
                .into_iter()
                .map(|item| {
                    let span = item.span();
                    Node { span: (span.start, span.end), value: toml_value(item.into_inner()) }
                })
                .collect(),
        ),
        DeValue::Table(table) => toml_table(table),
    }
}

/// Reads YAML; its parser ends at the first syntax error.
pub fn from_yaml(text: &str) -> Result<Node, Vec<Diagnostic>> {
    serde_saphyr::from_str::<Node>(text).map_err(|error| {
        let diagnostic = Diagnostic::new(error.without_snippet().to_string().trim().replace('\n', ", "));
        vec![match error.location().and_then(byte_span) {
            Some((start, end)) => diagnostic.at((start.min(text.len()), end.clamp(start, text.len()))),
            None => diagnostic,
        }]
    })
}

fn byte_span(location: serde_saphyr::Location) -> Option<Span> {
    let start = location.span().byte_offset()? as usize;
    Some((start, start + location.span().byte_len().unwrap_or(0) as usize))
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = serde_saphyr::Spanned::<Value>::deserialize(deserializer)?;
        Ok(Node { span: byte_span(spanned.referenced).unwrap_or((0, 0)), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyValue;

        impl<'de> Visitor<'de> for AnyValue {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
                Ok(Value::Boolean(truth))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
                Ok(Value::Integer(number))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
                Ok(i64::try_from(number).map_or(Value::Number(number as f64), Value::Integer))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
                Ok(Value::Number(number))
            }

            fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                Ok(Value::Text(text.to_string()))
            }

            fn visit_string<E>(self, text: String) -> Result<Value, E> {
                Ok(Value::Text(text))
            }

            fn visit_none<E>(self) -> Result<Value, E> {
                Ok(Value::Nothing)
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Nothing)
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
                Value::deserialize(deserializer)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element::<Node>()? {
                    list.push(item);
                }
                Ok(Value::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
                let mut table: Vec<Entry> = Vec::new();
                while let Some(key) = entries.next_key::<serde_saphyr::Spanned<String>>()? {
                    if table.iter().any(|entry| entry.key == key.value) {
                        return Err(A::Error::custom(format!("key '{}' stands here twice", key.value)));
                    }
                    let key_span = byte_span(key.referenced).unwrap_or((0, 0));
                    table.push(Entry { key: key.value, key_span, node: entries.next_value()? });
                }
                Ok(Value::Table(table))
            }
        }

        deserializer.deserialize_any(AnyValue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry<'a>(node: &'a Node, key: &str) -> &'a Entry {
        let Value::Table(entries) = &node.value else { panic!("not a table: {node:?}") };
        entries.iter().find(|entry| entry.key == key).unwrap_or_else(|| panic!("no {key} in {entries:?}"))
    }

    #[test]
    fn both_languages_give_the_same_tree_with_places() {
        let toml = "kind = \"train\"\n[train]\nepochs = 20\nrate = 0.5\nflags = [true, \"x\"]\n";
        let yaml = "kind: train\ntrain:\n  epochs: 20\n  rate: 0.5\n  flags: [true, \"x\"]\n";
        for (text, node) in [(toml, from_toml(toml).unwrap()), (yaml, from_yaml(yaml).unwrap())] {
            let place = |span: Span| &text[span.0..span.1];
            let kind = entry(&node, "kind");
            assert_eq!(place(kind.key_span), "kind");
            assert!(place(kind.node.span).contains("train"), "{text}");
            let train = &entry(&node, "train").node;
            assert_eq!(place(entry(train, "epochs").key_span), "epochs");
            assert_eq!(place(entry(train, "epochs").node.span), "20");
            assert_eq!(entry(train, "epochs").node.value, Value::Integer(20));
            assert_eq!(entry(train, "rate").node.value, Value::Number(0.5));
            let Value::List(flags) = &entry(train, "flags").node.value else { panic!("{train:?}") };
            assert_eq!(flags[0].value, Value::Boolean(true));
            assert_eq!(flags[1].value, Value::Text("x".to_string()));
        }
    }

    #[test]
    fn syntax_errors_have_a_place() {
        let all = from_toml("a = \nb = [1\nc = 2\n").unwrap_err();
        assert!(!all.is_empty() && all.iter().all(|diagnostic| diagnostic.span.is_some()), "{all:?}");
        let yaml = from_yaml("a: 1\na: 2\n").unwrap_err();
        assert!(yaml[0].span.is_some(), "{yaml:?}");
        assert!(from_yaml("a: [1, 2").is_err());
    }
}
