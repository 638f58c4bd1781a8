//! Defaults for `WITH (…)`, said once for all tables of a file: `SET target.CONNECTOR.OPTION = value`.
//!
//! They are how one file runs in several places: what differs from place to place (where the brokers are, which table
//! store there is) is left out of its tables, and said by whoever runs it. `target.table.connector` is the connector of
//! tables that name none.
//!
//! Invariant: what a table says itself stands; a default is only added where it says nothing.

use super::settings;
use super::text::{Positions, Tok};
use super::{cursor::Cursor, statements::Setting};
use connectors::OptionEntry;
use datafusion::sql::sqlparser::tokenizer::Token;
use jobs::Diagnostic;

/// Keys of settings begin with it.
pub(crate) const PREFIX: &str = "target.";

/// Options of tables that no connector knows, and that can be said for all of them.
pub(crate) const OF_ENGINE: [&str; 4] =
    ["watermark.idle", "allowed_lateness", "lookup.cache.max_rows", "lookup.cache.ttl"];

/// An option that reaches the client as it is may be written with this before it or without.
const PASSED_ON: &str = "properties.";

/// By connector.
#[derive(Debug, Default)]
pub(crate) struct Defaults(Vec<(String, OptionEntry)>);

impl Defaults {
    /// Of all statements of a file, since they may stand behind the tables. A statement with a mistake is left out here: it is
    /// read again, and told, in its place.
    pub(crate) fn of(positions: &Positions, toks: &[Tok]) -> Self {
        let mut defaults = Vec::new();
        let nothing = Self::default();
        for toks in toks.split(|tok| tok.is_token(&Token::SemiColon)).filter(|toks| !toks.is_empty()) {
            let mut cursor = Cursor::new(positions, &nothing, toks, toks[toks.len() - 1].span.1);
            if !cursor.accept(&["SET"]) {
                continue;
            }
            let Ok(setting) = settings::setting(&mut cursor) else { continue };
            if let Some((connector, option)) = split(&setting.key) {
                let entry = OptionEntry {
                    key: option.to_string(),
                    value: setting.value.clone(),
                    key_span: Some(setting.key_span),
                    value_span: Some(setting.value_span),
                };
                defaults.push((connector.to_string(), entry));
            }
        }
        Self(defaults)
    }

    /// Adds what a table with these options does not say itself.
    pub(crate) fn complete(&self, options: &mut Vec<OptionEntry>) {
        if self.0.is_empty() {
            return;
        }
        let said = |options: &[OptionEntry], key: &str| {
            let bare = |key: &str| key.strip_prefix(PASSED_ON).unwrap_or(key).to_string();
            options.iter().any(|entry| bare(&entry.key) == bare(key))
        };
        let chosen = self.0.iter().rev().find(|(of, entry)| of == "table" && entry.key == "connector");
        if let Some((_, entry)) = chosen
            && !said(options, "connector")
        {
            options.push(entry.clone());
        }
        let connector = options.iter().find(|entry| entry.key == "connector").map_or("table", |entry| &entry.value);
        let connector = connector.to_string();
        // Of two that say the same, the later one stands.
        for (_, entry) in self.0.iter().rev().filter(|(of, entry)| *of == connector && entry.key != "connector") {
            if !said(options, &entry.key) {
                options.push(entry.clone());
            }
        }
    }
}

/// The connector and the option of `target.CONNECTOR.OPTION`.
fn split(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix(PREFIX)?.split_once('.').filter(|(connector, option)| !connector.is_empty() && !option.is_empty())
}

/// What is wrong with a setting whose key begins with [`PREFIX`]. Its value is looked at with the tables that it is for.
pub(crate) fn check(setting: &Setting) -> Result<(), Diagnostic> {
    let wrong = |message: String| Diagnostic::new(message).at(setting.key_span);
    let Some((name, option)) = split(&setting.key) else {
        let error = wrong(format!("'{}' names no option", setting.key));
        return Err(error.help("write target.CONNECTOR.OPTION, for example target.kafka.bootstrap.servers"));
    };
    let Some(connector) = connectors::find(name) else {
        let names = connectors::registry().iter().map(|connector| connector.name());
        return Err(wrong(format!("unknown connector '{name}'")).suggest(name, names));
    };
    let known = connector.options();
    let passed_through = connector.option_prefixes().iter().any(|prefix| option.starts_with(prefix));
    let elsewhere = option == "connector" && name == "table";
    if elsewhere || passed_through || OF_ENGINE.contains(&option) || known.iter().any(|known| known.name == option) {
        return Ok(());
    }
    let names = known.iter().map(|option| option.name);
    Err(wrong(format!("unknown option '{option}' of connector '{name}'")).suggest(option, names))
}

#[cfg(test)]
mod tests {
    use crate::sql::{Script, parse};

    fn options(script: &Script, table: &str) -> Vec<String> {
        let def = &script.table(table).expect("it is there").def;
        let mut options: Vec<String> =
            def.options.iter().map(|entry| format!("{}={}", entry.key, entry.value)).collect();
        options.sort();
        options
    }

    fn mistakes(text: &str) -> Vec<String> {
        parse(text).err().unwrap_or_default().into_iter().map(|wrong| wrong.message).collect()
    }

    #[test]
    fn tables_get_what_they_do_not_say() {
        let script = parse(
            "CREATE TABLE a (x BIGINT) WITH (connector = 'kafka', topic = 'a');
             CREATE TABLE b (x BIGINT) WITH (connector = 'kafka', topic = 'b', properties.bootstrap.servers = 'own:1');
             CREATE TABLE c (x BIGINT, PRIMARY KEY (x) NOT ENFORCED);
             CREATE TABLE d AS SELECT x, COUNT(*) AS n FROM a GROUP BY x;
             CREATE TABLE e (x BIGINT) WITH (connector = 'blackhole');
             SET target.kafka.bootstrap.servers = 'theirs:9092';
             SET target.table.connector = 'cassandra';
             SET target.cassandra.contact_points = 'first';
             SET target.cassandra.contact_points = 'later';
             SET target.cassandra.keyspace = 'k'",
        )
        .expect("it parses");
        assert_eq!(options(&script, "a"), ["bootstrap.servers=theirs:9092", "connector=kafka", "topic=a"]);
        assert_eq!(options(&script, "b"), ["connector=kafka", "properties.bootstrap.servers=own:1", "topic=b"]);
        let cassandra = ["connector=cassandra", "contact_points=later", "keyspace=k"];
        assert_eq!(options(&script, "c"), cassandra);
        assert_eq!(options(&script, "d"), cassandra);
        assert_eq!(options(&script, "e"), ["connector=blackhole"]);
    }

    #[test]
    fn mistakes_are_told_where_they_are_said() {
        assert_eq!(mistakes("SET target.kafak.topic = 'x'"), ["unknown connector 'kafak'"]);
        assert_eq!(mistakes("SET target.kafka.tpoic = 'x'"), ["unknown option 'tpoic' of connector 'kafka'"]);
        assert_eq!(mistakes("SET target.kafka = 'x'"), ["'target.kafka' names no option"]);
        let text = "CREATE TABLE a (x BIGINT) WITH (connector = 'kafka', topic = 'a', bootstrap.servers = 'b:1');
                    SET target.kafka.scan.startup = 'erliest'";
        let wrong = parse(text).expect_err("the value is none");
        let (from, to) = wrong[0].span.expect("it has a place");
        assert_eq!(&text[from..to], "'erliest'");
        // A table that says it itself does not look at the default.
        let own = text.replace("topic = 'a'", "topic = 'a', scan.startup = 'latest'");
        assert_eq!(mistakes(&own), Vec::<String>::new());
    }
}
