//! An Avro schema, parsed from its JSON.
//!
//! Invariant: every name that is used stands for one definition; records may hold themselves, so nothing here or after
//! walks a schema without a bound.

use serde_json::{Map, Value};
use std::collections::HashMap;

type Parsed<T> = Result<T, String>;

/// What is parsed is nested less deeply than this, as JSON and by references.
const MOST_DEPTH: usize = 100;

#[derive(Clone, Debug)]
pub struct Schema {
    named: Vec<Named>,
    root: Node,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    Null,
    Boolean,
    Int(Option<Logical>),
    Long(Option<Logical>),
    Float,
    Double,
    Bytes(Option<Logical>),
    Text(Option<Logical>),
    Array(Box<Node>),
    Map(Box<Node>),
    Union(Vec<Node>),
    /// By its place among the schema's definitions.
    Named(usize),
}

#[derive(Clone, Debug)]
pub enum Named {
    Record {
        name: String,
        fields: Vec<Field>,
    },
    Enum {
        name: String,
        symbols: Vec<String>,
        default: Option<String>,
    },
    Fixed {
        name: String,
        size: usize,
        logical: Option<Logical>,
    },
    /// Its definition has begun and not ended.
    Begun,
}

#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    pub aliases: Vec<String>,
    pub node: Node,
    /// As JSON, which says what it is only together with the schema.
    pub default: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logical {
    Decimal {
        precision: u8,
        scale: i8,
    },
    Uuid,
    Date,
    TimeMillis,
    TimeMicros,
    /// Units in a second. Whether it is local is not told: columns are in UTC.
    Timestamp {
        per_second: i64,
    },
}

impl Schema {
    /// `referenced` are the schemas that this one names and does not define, each after those that it names itself.
    pub fn parse(text: &str, referenced: &[String]) -> Parsed<Self> {
        let mut parser = Parser { named: Vec::new(), by_name: HashMap::new() };
        for text in referenced {
            parser.root(text)?;
        }
        let root = parser.root(text)?;
        Ok(Self { named: parser.named, root })
    }

    pub fn root(&self) -> &Node {
        &self.root
    }

    pub fn named(&self, at: usize) -> &Named {
        &self.named[at]
    }

    /// The full name of the record at the root.
    pub fn name(&self) -> Option<&str> {
        match &self.root {
            Node::Named(at) => match self.named(*at) {
                Named::Record { name, .. } | Named::Enum { name, .. } | Named::Fixed { name, .. } => Some(name),
                Named::Begun => None,
            },
            _ => None,
        }
    }

    /// For people.
    pub fn describe(&self, node: &Node) -> String {
        let logical = |base: &str, logical: &Option<Logical>| match logical {
            None => base.to_owned(),
            Some(Logical::Decimal { precision, scale }) => format!("{base} (decimal({precision}, {scale}))"),
            Some(Logical::Uuid) => format!("{base} (uuid)"),
            Some(Logical::Date) => format!("{base} (date)"),
            Some(Logical::TimeMillis) => format!("{base} (time-millis)"),
            Some(Logical::TimeMicros) => format!("{base} (time-micros)"),
            Some(Logical::Timestamp { per_second }) => format!("{base} (timestamp, {per_second} to the second)"),
        };
        match node {
            Node::Null => "null".to_owned(),
            Node::Boolean => "boolean".to_owned(),
            Node::Int(of) => logical("int", of),
            Node::Long(of) => logical("long", of),
            Node::Float => "float".to_owned(),
            Node::Double => "double".to_owned(),
            Node::Bytes(of) => logical("bytes", of),
            Node::Text(of) => logical("string", of),
            Node::Array(_) => "array".to_owned(),
            Node::Map(_) => "map".to_owned(),
            Node::Union(branches) => {
                let all: Vec<String> = branches.iter().map(|branch| self.describe(branch)).collect();
                format!("union of {}", all.join(", "))
            }
            Node::Named(at) => match self.named(*at) {
                Named::Record { name, .. } => format!("record {name}"),
                Named::Enum { name, .. } => format!("enum {name}"),
                Named::Fixed { name, size, logical: of } => logical(&format!("fixed {name} of {size} bytes"), of),
                Named::Begun => "?".to_owned(),
            },
        }
    }
}

struct Parser {
    named: Vec<Named>,
    by_name: HashMap<String, usize>,
}

impl Parser {
    fn root(&mut self, text: &str) -> Parsed<Node> {
        // The name of a primitive type may stand without quotes.
        let value = match serde_json::from_str(text) {
            Ok(value) => value,
            Err(_) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase()) => {
                Value::String(text.to_owned())
            }
            Err(why) => return Err(format!("is no JSON: {why}")),
        };
        self.node(&value, "", 0)
    }

    fn node(&mut self, value: &Value, namespace: &str, depth: usize) -> Parsed<Node> {
        if depth > MOST_DEPTH {
            return Err("is nested too deeply".to_owned());
        }
        match value {
            Value::String(name) => self.by_word(name, namespace),
            Value::Array(branches) => {
                let branches: Vec<Node> =
                    branches.iter().map(|branch| self.node(branch, namespace, depth + 1)).collect::<Parsed<_>>()?;
                match branches.iter().any(|branch| matches!(branch, Node::Union(_))) {
                    true => Err("holds a union within a union".to_owned()),
                    false => Ok(Node::Union(branches)),
                }
            }
            Value::Object(object) => self.object(object, namespace, depth),
            other => Err(format!("holds {other} where a type must be")),
        }
    }

    fn by_word(&self, word: &str, namespace: &str) -> Parsed<Node> {
        Ok(match word {
            "null" => Node::Null,
            "boolean" => Node::Boolean,
            "int" => Node::Int(None),
            "long" => Node::Long(None),
            "float" => Node::Float,
            "double" => Node::Double,
            "bytes" => Node::Bytes(None),
            "string" => Node::Text(None),
            name => {
                let full = full_name(name, None, namespace);
                let at = self.by_name.get(&full).or_else(|| self.by_name.get(name));
                Node::Named(*at.ok_or_else(|| format!("names the type '{name}', which it does not define"))?)
            }
        })
    }

    fn object(&mut self, object: &Map<String, Value>, namespace: &str, depth: usize) -> Parsed<Node> {
        let kind = object.get("type").ok_or("has a type without 'type'")?;
        let Value::String(word) = kind else { return self.node(kind, namespace, depth + 1) };
        let part = |key: &str| object.get(key).ok_or_else(|| format!("has a type '{word}' without '{key}'"));
        match word.as_str() {
            "array" => Ok(Node::Array(Box::new(self.node(part("items")?, namespace, depth + 1)?))),
            "map" => Ok(Node::Map(Box::new(self.node(part("values")?, namespace, depth + 1)?))),
            "record" | "error" => {
                let (name, inner) = names(object, namespace)?;
                let at = self.define(&name)?;
                let fields = part("fields")?.as_array().ok_or("has a record whose 'fields' are no list")?;
                let fields = fields.iter().map(|field| self.field(field, &inner, depth + 1)).collect::<Parsed<_>>()?;
                self.named[at] = Named::Record { name, fields };
                Ok(Node::Named(at))
            }
            "enum" => {
                let (name, _) = names(object, namespace)?;
                let at = self.define(&name)?;
                let default = object.get("default").and_then(Value::as_str).map(str::to_owned);
                self.named[at] = Named::Enum { name, symbols: texts(part("symbols")?)?, default };
                Ok(Node::Named(at))
            }
            "fixed" => {
                let (name, _) = names(object, namespace)?;
                let at = self.define(&name)?;
                let size = part("size")?.as_u64().and_then(|size| usize::try_from(size).ok());
                let size = size.ok_or_else(|| format!("has a fixed type '{name}' whose size is no number"))?;
                let logical = match logical(object) {
                    Some(Logical::Uuid) if size != 16 => None,
                    Some(of @ (Logical::Decimal { .. } | Logical::Uuid)) => Some(of),
                    _ => None,
                };
                self.named[at] = Named::Fixed { name, size, logical };
                Ok(Node::Named(at))
            }
            _ => {
                let of = logical(object);
                // A logical type that does not go with its type is not there, says the specification.
                Ok(match self.by_word(word, namespace)? {
                    Node::Int(_) => Node::Int(of.filter(|of| matches!(of, Logical::Date | Logical::TimeMillis))),
                    Node::Long(_) => {
                        Node::Long(of.filter(|of| matches!(of, Logical::TimeMicros | Logical::Timestamp { .. })))
                    }
                    Node::Bytes(_) => Node::Bytes(of.filter(|of| matches!(of, Logical::Decimal { .. }))),
                    Node::Text(_) => Node::Text(of.filter(|of| *of == Logical::Uuid)),
                    other => other,
                })
            }
        }
    }

    fn field(&mut self, value: &Value, namespace: &str, depth: usize) -> Parsed<Field> {
        let object = value.as_object().ok_or("has a field that is no object")?;
        let name = object.get("name").and_then(Value::as_str).ok_or("has a field without a name")?;
        let kind = object.get("type").ok_or_else(|| format!("has a field '{name}' without a type"))?;
        Ok(Field {
            name: name.to_owned(),
            aliases: object.get("aliases").map(texts).transpose()?.unwrap_or_default(),
            node: self.node(kind, namespace, depth)?,
            default: object.get("default").cloned(),
        })
    }

    fn define(&mut self, name: &str) -> Parsed<usize> {
        let at = self.named.len();
        if self.by_name.insert(name.to_owned(), at).is_some() {
            return Err(format!("defines '{name}' twice"));
        }
        self.named.push(Named::Begun);
        Ok(at)
    }
}

/// The full name that a definition gives, and the namespace of what is within.
fn names(object: &Map<String, Value>, namespace: &str) -> Parsed<(String, String)> {
    let name = object.get("name").and_then(Value::as_str).ok_or("has a definition without a name")?;
    let full = full_name(name, object.get("namespace").and_then(Value::as_str), namespace);
    let inner = full.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
    Ok((full, inner))
}

fn full_name(name: &str, own: Option<&str>, around: &str) -> String {
    match own.unwrap_or(around) {
        _ if name.contains('.') => name.trim_start_matches('.').to_owned(),
        "" => name.to_owned(),
        namespace => format!("{namespace}.{name}"),
    }
}

fn texts(value: &Value) -> Parsed<Vec<String>> {
    let items = value.as_array().ok_or("has no list where one must be")?;
    items.iter().map(|item| Ok(item.as_str().ok_or("has something else in a list of names")?.to_owned())).collect()
}

fn logical(object: &Map<String, Value>) -> Option<Logical> {
    let number = |key: &str| object.get(key).and_then(Value::as_u64);
    Some(match object.get("logicalType")?.as_str()? {
        "decimal" => {
            let precision = u8::try_from(number("precision")?).ok()?;
            let scale = i8::try_from(number("scale").unwrap_or(0)).ok()?;
            (precision > 0 && i16::from(scale) <= i16::from(precision)).then_some(())?;
            Logical::Decimal { precision, scale }
        }
        "uuid" => Logical::Uuid,
        "date" => Logical::Date,
        "time-millis" => Logical::TimeMillis,
        "time-micros" => Logical::TimeMicros,
        "timestamp-millis" | "local-timestamp-millis" => Logical::Timestamp { per_second: 1000 },
        "timestamp-micros" | "local-timestamp-micros" => Logical::Timestamp { per_second: 1_000_000 },
        "timestamp-nanos" | "local-timestamp-nanos" => Logical::Timestamp { per_second: 1_000_000_000 },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_references_and_logical_types() {
        let other = r#"{"type":"fixed","name":"b.Id","size":16,"logicalType":"uuid"}"#;
        let text = r#"{"type":"record","name":"A","namespace":"a.b","fields":[
            {"name":"next","type":["null","A"],"default":null},
            {"name":"id","type":"b.Id"},
            {"name":"e","type":{"type":"enum","name":"E","symbols":["X"]}},
            {"name":"again","type":"a.b.E"},
            {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
            {"name":"odd","type":{"type":"string","logicalType":"date"}},
            {"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}}]}"#;
        let schema = Schema::parse(text, &[other.to_owned()]).unwrap();
        assert_eq!(schema.name(), Some("a.b.A"));
        let Node::Named(at) = schema.root() else { panic!("{:?}", schema.root()) };
        let Named::Record { fields, .. } = schema.named(*at) else { panic!("no record") };
        assert_eq!(fields[0].node, Node::Union(vec![Node::Null, Node::Named(*at)]));
        assert_eq!(fields[2].node, fields[3].node);
        assert_eq!(fields[4].node, Node::Long(Some(Logical::Timestamp { per_second: 1000 })));
        assert_eq!(fields[5].node, Node::Text(None));
        assert_eq!(fields[6].node, Node::Bytes(Some(Logical::Decimal { precision: 9, scale: 2 })));
        assert_eq!(schema.describe(&fields[1].node), "fixed b.Id of 16 bytes (uuid)");
    }

    #[test]
    fn what_is_no_schema_is_told() {
        let deep = format!("{}\"int\"{}", r#"{"type":"array","items":"#.repeat(120), "}".repeat(120));
        for (text, why) in [
            ("{", "JSON"),
            ("7", "7"),
            ("\"nope\"", "'nope'"),
            (r#"{"type":"record","name":"A","fields":[{"name":"x","type":"B"}]}"#, "'B'"),
            (r#"[["null"]]"#, "union within"),
            (r#"{"type":"fixed","name":"F"}"#, "'size'"),
            (deep.as_str(), ""),
        ] {
            let told = Schema::parse(text, &[]).unwrap_err();
            assert!(told.contains(why), "{text}: {told}");
        }
        assert_eq!(Schema::parse("long", &[]).unwrap().root(), &Node::Long(None));
    }
}
