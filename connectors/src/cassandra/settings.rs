//! The options of one Cassandra table as typed values.
//!
//! Invariant: the password is shown nowhere; this type has no `Debug`.

use super::encryption::Encryption;
use super::policies::Policies;
use crate::api::{Error, Result, TableDef};
use crate::options::Options;
use jobs::Diagnostic;
use scylla::statement::Consistency;
use std::path::Path;

const PORT: u16 = 9042;
/// More than a node takes from one client without queueing is of no use; the protocol's own bound is 32,768 a connection.
const MOST_IN_FLIGHT: usize = 16_384;

const LEVELS: [(&str, Consistency); 9] = [
    ("any", Consistency::Any),
    ("one", Consistency::One),
    ("two", Consistency::Two),
    ("three", Consistency::Three),
    ("quorum", Consistency::Quorum),
    ("all", Consistency::All),
    ("local_quorum", Consistency::LocalQuorum),
    ("each_quorum", Consistency::EachQuorum),
    ("local_one", Consistency::LocalOne),
];

#[derive(Clone)]
pub struct Settings {
    /// The SQL table's name, for messages.
    pub name: String,
    /// `host:port` each.
    pub contact_points: Vec<String>,
    pub keyspace: String,
    pub table: String,
    pub user: Option<(String, String)>,
    pub create_keyspace: bool,
    pub create_table: bool,
    pub replication: u32,
    pub consistency: Consistency,
    pub ttl_s: Option<u32>,
    pub max_in_flight: usize,
    pub policies: Policies,
    pub encryption: Option<Encryption>,
}

impl Settings {
    pub fn of(table: &TableDef) -> std::result::Result<Self, Vec<Diagnostic>> {
        let options = Options::new(table);
        let mut wrong = Vec::new();
        let mut contact_points = Vec::new();
        for point in options.text("contact_points").unwrap_or_default().split(',').map(str::trim) {
            match with_port(point) {
                Some(point) => contact_points.push(point),
                None => wrong.push(
                    options
                        .wrong("contact_points", format!("'{point}' is not the address of a node"))
                        .help("write host or host:port, separated by commas"),
                ),
            }
        }
        for key in ["keyspace", "table"] {
            if let Some(name) = options.text(key)
                && (name.is_empty() || name.contains('"'))
            {
                wrong.push(options.wrong(key, format!("'{name}' cannot be the name of a {key}")));
            }
        }
        let user = match (options.text("username"), options.text("password")) {
            (Some(name), Some(password)) => Some((name.to_owned(), password.to_owned())),
            (None, None) => None,
            (Some(_), None) => {
                wrong
                    .push(options.wrong("username", "option 'username' comes without a password").help("add password"));
                None
            }
            (None, Some(_)) => {
                wrong
                    .push(options.wrong("password", "option 'password' comes without a username").help("add username"));
                None
            }
        };
        let words: Vec<&str> = LEVELS.iter().map(|(word, _)| *word).collect();
        let consistency = match options.one_of("consistency", &words) {
            Ok(word) => LEVELS
                .iter()
                .find(|(level, _)| Some(*level) == word)
                .map_or(Consistency::LocalQuorum, |(_, consistency)| *consistency),
            Err(mistake) => {
                wrong.push(mistake);
                Consistency::LocalQuorum
            }
        };
        let ttl = options.duration("ttl").unwrap_or_else(|mistake| {
            wrong.push(mistake);
            None
        });
        // Cassandra refuses more than twenty years.
        if ttl.is_some_and(|ttl| ttl.as_secs() == 0 || ttl.as_secs() > 630_720_000) {
            wrong.push(options.wrong("ttl", "option 'ttl' must be from 1s to 7300d"));
        }
        let mut flag = |key: &str| {
            options.bool(key).unwrap_or_else(|mistake| {
                wrong.push(mistake);
                None
            }) == Some(true)
        };
        let (create_keyspace, create_table) = (flag("create_keyspace"), flag("create_table"));
        let replication = options.number_within("replication", 1, 1000).unwrap_or_else(|mistake| {
            wrong.push(mistake);
            None
        });
        let max_in_flight = options.number_within("max_in_flight", 1, MOST_IN_FLIGHT).unwrap_or_else(|mistake| {
            wrong.push(mistake);
            None
        });
        let policies = Policies::of(&options).unwrap_or_else(|mistake| {
            wrong.push(mistake);
            Policies::default()
        });
        let encryption = Encryption::of(&options).unwrap_or_else(|mistake| {
            wrong.push(mistake);
            None
        });
        if !wrong.is_empty() {
            return Err(wrong);
        }
        Ok(Self {
            name: table.name.clone(),
            contact_points,
            keyspace: options.text("keyspace").unwrap_or_default().to_owned(),
            table: options.text("table").unwrap_or(&table.name).to_owned(),
            user,
            create_keyspace,
            create_table,
            replication: replication.unwrap_or(1),
            consistency,
            ttl_s: ttl.map(|ttl| ttl.as_secs() as u32),
            max_in_flight: max_in_flight.unwrap_or(256),
            policies,
            encryption,
        })
    }

    /// Files of the table are found from `base_dir`.
    pub fn open(table: &TableDef, base_dir: &Path) -> Result<Self> {
        let mut settings = Self::of(table).map_err(|wrong| {
            let all: Vec<String> = wrong.iter().map(Diagnostic::to_string).collect();
            Error::Fatal(all.join("; "))
        })?;
        settings.encryption = settings.encryption.map(|encryption| encryption.beside(base_dir));
        Ok(settings)
    }

    /// For messages: where.
    pub fn place(&self) -> String {
        format!("Cassandra at {}", self.contact_points.join(","))
    }

    /// The table's name as CQL.
    pub fn quoted_table(&self) -> String {
        format!("{}.{}", quoted(&self.keyspace), quoted(&self.table))
    }
}

/// A name as CQL that keeps its case.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn with_port(point: &str) -> Option<String> {
    if point.is_empty() || point.contains(char::is_whitespace) {
        return None;
    }
    // An IPv6 address without brackets has several colons and no port.
    if point.matches(':').count() > 1 && !point.starts_with('[') {
        return Some(format!("[{point}]:{PORT}"));
    }
    match point.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            (!host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)).then(|| point.to_owned())
        }
        _ => Some(format!("{point}:{PORT}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::table;

    #[test]
    fn options_become_settings_and_mistakes_are_told_together() {
        let good = table(
            &[],
            &[("contact_points", "a, b:9043,::1"), ("keyspace", "ks"), ("consistency", "ONE"), ("ttl", "1h")],
        );
        let settings = Settings::of(&good).unwrap_or_else(|wrong| panic!("{wrong:?}"));
        assert_eq!(settings.contact_points, ["a:9042", "b:9043", "[::1]:9042"]);
        assert_eq!((settings.table.as_str(), settings.ttl_s), ("t", Some(3600)));
        assert_eq!((settings.consistency, settings.max_in_flight), (Consistency::One, 256));
        assert!(settings.encryption.is_none() && settings.policies == Policies::default());
        let bad = table(
            &[],
            &[
                ("contact_points", "a:port"),
                ("keyspace", "k\""),
                ("consistency", "qorum"),
                ("password", "hunter2"),
                ("max_in_flight", "0"),
                ("speculative.most", "2"),
                ("ssl.key.location", "own.key"),
            ],
        );
        let told: Vec<String> =
            Settings::of(&bad).err().unwrap_or_default().iter().map(Diagnostic::to_string).collect();
        let told = told.join("\n");
        for part in [
            "'a:port'",
            "did you mean 'quorum'",
            "without a username",
            "max_in_flight",
            "speculative.after",
            "ssl.ca.location",
        ] {
            assert!(told.contains(part), "{part} is not in: {told}");
        }
        assert!(!told.contains("hunter2"));
    }
}
