//! Typed reading of one table by its [`Shape`]; collects every mistake instead of ending at the first.
//!
//! Invariant: a value that was missing or wrong comes back as a fallback only together with a diagnostic, so a result
//! is sound exactly when the list of diagnostics stayed empty.

use super::document::{Entry, Node, Span, Value};
use super::shape::{Field, Kind, Shape, Variant};
use connectors::OptionEntry;
use jobs::Diagnostic;
use jobs::text::{parse_duration, parse_mem_mib};
use std::collections::BTreeMap;

pub struct Reader<'a> {
    shape: &'static Shape,
    entries: &'a [Entry],
    diagnostics: &'a mut Vec<Diagnostic>,
}

/// The options of a `WITH (…)` or of `SET` as a table of texts.
pub fn entries_of_options(options: &[OptionEntry]) -> Vec<Entry> {
    options
        .iter()
        .map(|option| {
            let key_span = option.key_span.unwrap_or((0, 0));
            let span = option.value_span.or(option.key_span).unwrap_or((0, 0));
            Entry { key: option.key.clone(), key_span, node: Node { span, value: Value::Text(option.value.clone()) } }
        })
        .collect()
}

impl<'a> Reader<'a> {
    /// Checks names at once: unknown keys and missing ones. `span` is where the table itself stands.
    pub fn new(
        shape: &'static Shape,
        entries: &'a [Entry],
        span: Option<Span>,
        diagnostics: &'a mut Vec<Diagnostic>,
    ) -> Self {
        for entry in entries {
            if shape.field(&entry.key).is_none() {
                let known: Vec<&str> = shape.fields.iter().map(|field| field.name).collect();
                let unknown = Diagnostic::new(format!("{} has no '{}'", shape.place, entry.key));
                diagnostics.push(unknown.at(entry.key_span).suggest(&entry.key, known));
            }
        }
        for field in shape.fields.iter().filter(|field| field.required) {
            if !entries.iter().any(|entry| entry.key == field.name) {
                let missing = Diagnostic::new(format!("'{}' is missing in {}", field.name, shape.place))
                    .help(format!("{}: {}", field.name, field.doc));
                diagnostics.push(match span {
                    Some(span) => missing.at(span),
                    None => missing,
                });
            }
        }
        Self { shape, entries, diagnostics }
    }

    pub fn complain(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// At the value of a key, if the file has it.
    pub fn complain_at(&mut self, name: &str, diagnostic: Diagnostic) {
        let diagnostic = match self.span(name) {
            Some(span) => diagnostic.at(span),
            None => diagnostic,
        };
        self.complain(diagnostic);
    }

    /// Whether the shape has this key at all.
    pub fn describes(&self, name: &str) -> bool {
        self.shape.field(name).is_some()
    }

    /// Mistakes so far, of this table and of everything before it.
    pub fn n_complaints(&self) -> usize {
        self.diagnostics.len()
    }

    pub fn has(&self, name: &str) -> bool {
        self.node(name).is_some()
    }

    pub fn span(&self, name: &str) -> Option<Span> {
        self.node(name).map(|node| node.span)
    }

    fn node(&self, name: &str) -> Option<&'a Node> {
        self.entries.iter().find(|entry| entry.key == name).map(|entry| &entry.node)
    }

    fn field(&self, name: &str) -> &'static Field {
        match self.shape.field(name) {
            Some(field) => field,
            None => panic!("{} describes no '{name}'", self.shape.place),
        }
    }

    fn wrong(&mut self, name: &str, node: &Node, expected: &str) {
        let shown = match &node.value {
            Value::Text(text) => format!("'{text}'"),
            Value::Integer(number) => number.to_string(),
            Value::Number(number) => number.to_string(),
            Value::Boolean(truth) => truth.to_string(),
            other => other.kind().to_string(),
        };
        self.complain(Diagnostic::new(format!("{name} is {shown}, not {expected}")).at(node.span));
    }

    /// The value as text, or the default; `None` where neither exists.
    pub fn text(&mut self, name: &str) -> Option<String> {
        let field = self.field(name);
        let Some(node) = self.node(name) else { return field.default.map(str::to_string) };
        match &node.value {
            Value::Text(text) if !text.trim().is_empty() => Some(text.clone()),
            Value::Text(_) => {
                self.complain(Diagnostic::new(format!("{name} is empty")).at(node.span));
                None
            }
            _ => {
                self.wrong(name, node, "a text");
                None
            }
        }
    }

    pub fn whole(&mut self, name: &str) -> Option<u64> {
        let field = self.field(name);
        let Kind::Whole(low, high) = field.kind else { panic!("'{name}' is {:?}", field.kind) };
        let Some(node) = self.node(name) else { return field.default.and_then(|text| text.parse().ok()) };
        let number = match &node.value {
            Value::Integer(number) => u64::try_from(*number).ok(),
            Value::Text(text) => text.trim().replace('_', "").parse().ok(),
            _ => None,
        };
        match number {
            Some(number) if (low..=high).contains(&number) => Some(number),
            _ => {
                let bounds = match high {
                    high if high >= i64::MAX as u64 => format!("a whole number of at least {low}"),
                    high => format!("a whole number from {low} to {high}"),
                };
                self.wrong(name, node, &bounds);
                None
            }
        }
    }

    pub fn number(&mut self, name: &str) -> Option<f64> {
        let field = self.field(name);
        let Kind::Number(low, high) = field.kind else { panic!("'{name}' is {:?}", field.kind) };
        let Some(node) = self.node(name) else { return field.default.and_then(|text| text.parse().ok()) };
        let number = match &node.value {
            Value::Integer(number) => Some(*number as f64),
            Value::Number(number) => Some(*number),
            Value::Text(text) => text.trim().parse().ok(),
            _ => None,
        };
        match number {
            Some(number) if (low..=high).contains(&number) => Some(number),
            _ => {
                self.wrong(name, node, &format!("a number from {low} to {high}"));
                None
            }
        }
    }

    pub fn boolean(&mut self, name: &str) -> Option<bool> {
        let field = self.field(name);
        let Some(node) = self.node(name) else { return field.default.map(|text| text == "true") };
        match &node.value {
            Value::Boolean(truth) => Some(*truth),
            Value::Text(text) if text.eq_ignore_ascii_case("true") => Some(true),
            Value::Text(text) if text.eq_ignore_ascii_case("false") => Some(false),
            _ => {
                self.wrong(name, node, "true or false");
                None
            }
        }
    }

    pub fn choice(&mut self, name: &str) -> Option<&'static str> {
        let field = self.field(name);
        let Kind::Choice(choices) = field.kind else { panic!("'{name}' is {:?}", field.kind) };
        let Some(node) = self.node(name) else { return field.default };
        let Value::Text(text) = &node.value else {
            self.wrong(name, node, &format!("one of {}", choices.join(", ")));
            return None;
        };
        let word = text.trim().replace('-', "_");
        let found = choices.iter().find(|choice| choice.eq_ignore_ascii_case(&word));
        if found.is_none() {
            let unknown = Diagnostic::new(format!("{name} '{text}' is not known")).at(node.span);
            self.complain(unknown.suggest(text, choices.iter().copied()));
        }
        found.copied()
    }

    pub fn duration_ms(&mut self, name: &str) -> Option<u64> {
        let field = self.field(name);
        let Kind::Duration(least_ms) = field.kind else { panic!("'{name}' is {:?}", field.kind) };
        let parse = |text: &str| parse_duration(text).map(|duration| duration.as_millis() as u64);
        let Some(node) = self.node(name) else { return field.default.and_then(|text| parse(text).ok()) };
        let Value::Text(text) = &node.value else {
            self.wrong(name, node, "a text with a unit, for example '10s'");
            return None;
        };
        match parse(text) {
            Ok(ms) if ms >= least_ms => Some(ms),
            Ok(_) => {
                self.wrong(name, node, &format!("at least {least_ms} ms"));
                None
            }
            Err(error) => {
                self.complain(Diagnostic::new(format!("{name}: {error}")).at(node.span));
                None
            }
        }
    }

    pub fn mem_mib(&mut self, name: &str) -> Option<f64> {
        let field = self.field(name);
        let Some(node) = self.node(name) else { return field.default.and_then(|text| parse_mem_mib(text).ok()) };
        let parsed = match &node.value {
            Value::Integer(mib) => Ok(*mib as f64),
            Value::Number(mib) => Ok(*mib),
            Value::Text(text) => parse_mem_mib(text),
            other => Err(format!("{} is not an amount", other.kind())),
        };
        match parsed {
            Ok(mib) if mib > 0.0 && mib.is_finite() => Some(mib),
            Ok(_) => {
                self.wrong(name, node, "more than 0 MiB");
                None
            }
            Err(error) => {
                self.complain(Diagnostic::new(format!("{name}: {error}")).at(node.span));
                None
            }
        }
    }

    /// A list of texts; in SQL one text with commas.
    pub fn text_list(&mut self, name: &str) -> Vec<String> {
        let Some(node) = self.node(name) else { return Vec::new() };
        match &node.value {
            Value::Text(text) if std::ptr::eq(self.shape, &super::shape::SQL_MODEL) => {
                text.split(',').map(|part| part.trim().to_string()).filter(|part| !part.is_empty()).collect()
            }
            Value::List(items) => {
                let mut texts = Vec::with_capacity(items.len());
                for item in items {
                    match &item.value {
                        Value::Text(text) => texts.push(text.clone()),
                        _ => self.wrong(name, item, "a text"),
                    }
                }
                texts
            }
            _ => {
                self.wrong(name, node, "a list of texts");
                Vec::new()
            }
        }
    }

    /// A table of texts; numbers and booleans are taken as they are written.
    pub fn text_table(&mut self, name: &str) -> BTreeMap<String, String> {
        let mut table = BTreeMap::new();
        let Some(node) = self.node(name) else { return table };
        let Value::Table(entries) = &node.value else {
            self.wrong(name, node, "a table of texts");
            return table;
        };
        for entry in entries {
            let text = match &entry.node.value {
                Value::Text(text) => text.clone(),
                Value::Integer(number) => number.to_string(),
                Value::Number(number) => number.to_string(),
                Value::Boolean(truth) => truth.to_string(),
                _ => {
                    self.wrong(&entry.key, &entry.node, "a text");
                    continue;
                }
            };
            table.insert(entry.key.clone(), text);
        }
        table
    }

    /// The table under `name`, or an empty one where it is absent or not a table.
    pub fn table(&mut self, name: &str) -> Reader<'_> {
        let field = self.field(name);
        let Kind::Table(shape) = field.kind else { panic!("'{name}' is {:?}", field.kind) };
        match self.node(name) {
            Some(Node { span, value: Value::Table(entries) }) => {
                Reader::new(shape, entries, Some(*span), self.diagnostics)
            }
            Some(node) => {
                self.wrong(name, node, "a table");
                Reader { shape, entries: &[], diagnostics: self.diagnostics }
            }
            // Its own absence was told if it is required; its keys' absence would only repeat that.
            None => Reader { shape, entries: &[], diagnostics: self.diagnostics },
        }
    }

    /// Reads each table under `name`; `read` is told what the file calls it. A text stands for a table with the first setting.
    pub fn tables<T>(&mut self, name: &str, mut read: impl FnMut(&mut Reader<'_>, &str, Span) -> Option<T>) -> Vec<T> {
        let field = self.field(name);
        let Kind::Tables(shape) = field.kind else { panic!("'{name}' is {:?}", field.kind) };
        let Some(node) = self.node(name) else { return Vec::new() };
        let Value::Table(entries) = &node.value else {
            self.wrong(name, node, "a table of tables");
            return Vec::new();
        };
        let mut values = Vec::with_capacity(entries.len());
        for Entry { key, key_span, node } in entries {
            let alone;
            let settings = match &node.value {
                Value::Table(settings) => settings,
                Value::Text(_) => {
                    let first = shape.fields.first().map_or("", |field| field.name);
                    alone = vec![Entry { key: first.to_string(), key_span: *key_span, node: node.clone() }];
                    &alone
                }
                _ => {
                    self.wrong(key, node, "a text or a table");
                    continue;
                }
            };
            values.extend(read(&mut Reader::new(shape, settings, Some(node.span), self.diagnostics), key, *key_span));
        }
        values
    }

    /// A text or a list of texts.
    pub fn names(&mut self, name: &str) -> Vec<String> {
        match self.node(name).map(|node| &node.value) {
            Some(Value::Text(_)) => self.text(name).into_iter().collect(),
            _ => self.text_list(name),
        }
    }

    /// Whole numbers from 1 on.
    pub fn whole_list(&mut self, name: &str) -> Vec<usize> {
        let Some(node) = self.node(name) else { return Vec::new() };
        let Value::List(items) = &node.value else {
            self.wrong(name, node, "a list of whole numbers from 1 on");
            return Vec::new();
        };
        let mut wholes = Vec::with_capacity(items.len());
        for item in items {
            match size_of(item) {
                Some(whole) => wholes.push(whole),
                None => self.wrong(name, item, "a whole number from 1 on"),
            }
        }
        if items.is_empty() {
            self.complain(Diagnostic::new(format!("{name} is empty")).at(node.span));
        }
        wholes
    }

    /// One whole number for both directions, or two.
    pub fn sizes(&mut self, name: &str) -> Option<[usize; 2]> {
        let field = self.field(name);
        let Some(node) = self.node(name) else {
            return field.default.and_then(|text| text.parse().ok()).map(|size| [size, size]);
        };
        let sizes = match &node.value {
            Value::List(items) => match items.as_slice() {
                [first, second] => size_of(first).zip(size_of(second)).map(|(first, second)| [first, second]),
                _ => None,
            },
            _ => size_of(node).map(|size| [size, size]),
        };
        if sizes.is_none() {
            self.wrong(name, node, "a whole number from 1 on, or two of them in a list");
        }
        sizes
    }

    /// Reads each table or word of the list under `name`; `read` is told which kind it is.
    pub fn variants<T>(
        &mut self,
        name: &str,
        mut read: impl FnMut(&mut Reader<'_>, &'static str, Span) -> Option<T>,
    ) -> Vec<T> {
        let field = self.field(name);
        let Kind::ListOf(variants) = field.kind else { panic!("'{name}' is {:?}", field.kind) };
        let Some(node) = self.node(name) else { return Vec::new() };
        let Value::List(items) = &node.value else {
            self.wrong(name, node, "a list");
            return Vec::new();
        };
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            let (variant, entries): (_, &[Entry]) = match &item.value {
                Value::Text(word) => (self.bare_variant(name, word, item.span, variants), &[]),
                Value::Table(entries) => (self.variant(name, entries, item.span, variants), entries),
                _ => {
                    self.wrong(name, item, "a table");
                    continue;
                }
            };
            let Some(variant) = variant else { continue };
            let mut reader = Reader::new(&variant.shape, entries, Some(item.span), self.diagnostics);
            if let Some(node) =
                reader.node(variant.name).filter(|node| variant.bare && node.value != Value::Boolean(true))
            {
                reader.wrong(variant.name, node, "true: it has no setting of its own");
                continue;
            }
            values.extend(read(&mut reader, variant.name, item.span));
        }
        values
    }

    fn bare_variant(
        &mut self,
        name: &str,
        word: &str,
        span: Span,
        variants: &'static [Variant],
    ) -> Option<&'static Variant> {
        let found = variants.iter().find(|variant| variant.name == word);
        match found {
            Some(variant) if variant.bare => return found,
            Some(_) => {
                let needs = Diagnostic::new(format!("{name}: '{word}' needs a setting")).at(span);
                self.complain(needs.help(format!("write {{ {word} = … }}")));
            }
            None => {
                let unknown = Diagnostic::new(format!("{name}: '{word}' is not known")).at(span);
                self.complain(unknown.suggest(word, variants.iter().map(|variant| variant.name)));
            }
        }
        None
    }

    /// Which kind a table is: the one whose key stands in it. A key may be a kind and a setting of another (`activation`).
    fn variant(
        &mut self,
        name: &str,
        entries: &[Entry],
        span: Span,
        variants: &'static [Variant],
    ) -> Option<&'static Variant> {
        let has = |name: &str| entries.iter().any(|entry| entry.key == name);
        let present: Vec<&'static Variant> = variants.iter().filter(|variant| has(variant.name)).collect();
        let is_setting =
            |of: &Variant| present.iter().any(|other| other.name != of.name && other.shape.field(of.name).is_some());
        let kinds: Vec<&'static Variant> = present.iter().copied().filter(|variant| !is_setting(variant)).collect();
        let known = || variants.iter().map(|variant| variant.name);
        match kinds.as_slice() {
            [variant] => Some(variant),
            [first, second, ..] => {
                let both = format!("'{}' and '{}' are two kinds of {name}", first.name, second.name);
                self.complain(Diagnostic::new(both).at(span).help("write them one after the other"));
                None
            }
            [] => {
                let is_known = |key: &str| variants.iter().any(|variant| variant.shape.field(key).is_some());
                let unknown = entries.iter().find(|entry| !is_known(&entry.key));
                self.complain(match unknown {
                    Some(entry) => Diagnostic::new(format!("'{}' is no kind of {name}", entry.key))
                        .at(entry.key_span)
                        .suggest(&entry.key, known().collect::<Vec<&str>>()),
                    None => Diagnostic::new(format!("{name}: nothing says which kind this is"))
                        .at(span)
                        .help(format!("one of {}", known().collect::<Vec<&str>>().join(", "))),
                });
                None
            }
        }
    }
}

fn size_of(node: &Node) -> Option<usize> {
    match &node.value {
        Value::Integer(number) if *number >= 1 => usize::try_from(*number).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::document::from_toml;
    use super::super::shape;
    use super::*;

    fn read(text: &str, check: impl FnOnce(&mut Reader<'_>)) -> Vec<Diagnostic> {
        let node = from_toml(text).unwrap();
        let Value::Table(entries) = &node.value else { panic!("{node:?}") };
        let mut diagnostics = Vec::new();
        check(&mut Reader::new(&shape::JOB, entries, None, &mut diagnostics));
        diagnostics
    }

    #[test]
    fn defaults_and_values() {
        let diagnostics = read("cpus = 0.5\nmem = \"2g\"\nrestart = \"never\"", |reader| {
            assert_eq!(reader.number("cpus"), Some(0.5));
            assert_eq!(reader.mem_mib("mem"), Some(2048.0));
            assert_eq!(reader.choice("restart"), Some("never"));
            assert_eq!(reader.whole("parallelism"), Some(1));
            assert_eq!(reader.text("role").as_deref(), Some("default"));
            assert_eq!(reader.text("name"), None);
        });
        assert_eq!(diagnostics, []);
    }

    #[test]
    fn every_mistake_at_its_place() {
        let text = "paralelism = 2\nparallelism = 0\nmem = true\nrestart = \"on_failre\"";
        let diagnostics = read(text, |reader| {
            reader.whole("parallelism");
            reader.mem_mib("mem");
            reader.choice("restart");
        });
        let shown: Vec<(&str, &str, &str)> = diagnostics
            .iter()
            .map(|diagnostic| {
                let (start, end) = diagnostic.span.unwrap();
                (&text[start..end], diagnostic.message.as_str(), diagnostic.help.as_deref().unwrap_or(""))
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("paralelism", "[job] has no 'paralelism'", "did you mean 'parallelism'?"),
                ("0", "parallelism is 0, not a whole number from 1 to 4096", ""),
                ("true", "mem: a boolean is not an amount", ""),
                ("\"on_failre\"", "restart 'on_failre' is not known", "did you mean 'on_failure'?"),
            ]
        );
    }
}
