//! Apache Cassandra and ScyllaDB: tables to upsert into, and to read through once.
//!
//! Promises: a sink's rows are upserts by primary key whose write timestamps rise with the job's generations and, within
//! one, with each batch; so writing a row again changes nothing, and a process of an earlier generation cannot overwrite
//! a later one's row. All of the table's columns are written, null ones too: the row is afterwards what was inserted. A
//! changelog's rows that are there no longer are deleted by their whole key, with timestamps of the same count: a later
//! row of the key is there again, a stale one stays deleted while Cassandra keeps the tombstone (gc_grace_seconds).
//! What a killed process wrote since its last checkpoint is there until a later row or deletion of its key comes.
//! A writer outside this job whose clock is far ahead can shadow our writes; Cassandra has no fence against that.
//! A timestamp keeps its milliseconds, which is what CQL's type holds.
//! A lookup reads the rows of a key at the table's consistency when it asks; so does a query over the table alone that says
//! which values the columns of its key have.
//!
//! Does not know: which slice writes which key. Two slices that write one key in one generation are ordered by their
//! count of batches only; the planner sends a key to one slice.

mod cells;
mod columns;
mod duration;
mod encryption;
mod found;
mod held;
mod lookup;
mod policies;
mod rows;
mod schema;
mod session;
mod settings;
mod sink;
mod source;
mod types;
mod values;
mod writes;

use crate::api::{
    Columns, Connector, Context, Delivery, Lookup, OneOf, OptionInfo, Result, Sink, SourceReader, SplitStart, TableDef,
    Takes,
};
use jobs::Diagnostic;
use settings::Settings;

pub struct Cassandra;

pub static CONNECTOR: Cassandra = Cassandra;

const fn option(
    name: &'static str,
    kind: &'static str,
    default: Option<&'static str>,
    required: bool,
    doc: &'static str,
) -> OptionInfo {
    OptionInfo { name, kind, default, required, doc }
}

static OPTIONS: &[OptionInfo] = &[
    option(
        "contact_points",
        "text",
        None,
        true,
        "nodes to ask first, host or host:port, separated by commas; port 9042",
    ),
    option("keyspace", "text", None, true, "the keyspace, in its written case"),
    option("table", "text", None, false, "the table, in its written case; default the SQL table's name"),
    option("username", "text", None, false, "user to log in as"),
    option("password", "text", None, false, "the user's password; never printed"),
    option("create_keyspace", "bool", Some("false"), false, "sink: whether a missing keyspace is created"),
    option(
        "create_table",
        "bool",
        Some("false"),
        false,
        "sink: whether a missing table is created; the first column of PRIMARY KEY is its partition key, the others \
         its clustering columns",
    ),
    option("replication", "number", Some("1"), false, "with create_keyspace: replicas per data centre"),
    option(
        "consistency",
        "any|one|two|three|quorum|all|local_quorum|each_quorum|local_one",
        Some("local_quorum"),
        false,
        "how many replicas answer for a write or read to count",
    ),
    option("ttl", "duration", None, false, "sink: rows vanish so long after they were written"),
    option(
        "max_in_flight",
        "number",
        Some("256"),
        false,
        "sink, lookup: requests that one slice has under way at once",
    ),
    option(
        "retry.policy",
        "default|never|downgrade_consistency",
        Some("default"),
        false,
        "what the driver does with a request that failed: asks another node where that may help, nothing, or also asks fewer \
         replicas than consistency says where too few are alive; whatever it does, the job tries again",
    ),
    option(
        "speculative.after",
        "duration",
        None,
        false,
        "asks another replica as well if none has answered within this time, and takes the first answer; what is written twice \
         is written once, by its timestamp",
    ),
    option(
        "speculative.most",
        "number",
        Some("1"),
        false,
        "how many replicas are asked as well, each after as long again",
    ),
    option(
        "ssl.ca.location",
        "text",
        None,
        false,
        "encrypts: a file of certificates (PEM) that vouch for the nodes; relative to the job file",
    ),
    option(
        "ssl.certificate.location",
        "text",
        None,
        false,
        "the certificate (PEM) that is shown to nodes which ask for one; relative to the job file",
    ),
    option("ssl.key.location", "text", None, false, "the key (PEM) of that certificate; relative to the job file"),
    option(
        "ssl.verify_hostname",
        "bool",
        Some("true"),
        false,
        "whether a node's certificate must be for the address that it is reached by",
    ),
];

impl Connector for Cassandra {
    fn name(&self) -> &'static str {
        "cassandra"
    }

    fn doc(&self) -> &'static str {
        "a table of Apache Cassandra or ScyllaDB, written by primary key, or read through once"
    }

    fn options(&self) -> &'static [OptionInfo] {
        OPTIONS
    }

    fn is_source(&self) -> bool {
        true
    }

    fn is_sink(&self) -> bool {
        true
    }

    fn check(&self, table: &TableDef) -> Vec<Diagnostic> {
        let mut wrong = Settings::of(table).err().unwrap_or_default();
        wrong.extend(schema::check(table));
        wrong
    }

    fn columns(&self, table: &TableDef, context: &Context) -> Result<Option<Columns>> {
        columns::columns(&Settings::open(table, &context.base_dir)?, table).map(Some)
    }

    fn bounded(&self, _table: &TableDef) -> bool {
        true
    }

    fn delivery(&self, _table: &TableDef) -> Delivery {
        Delivery::Idempotent
    }

    fn takes(&self, table: &TableDef) -> Takes {
        if table.primary_key.is_empty() { Takes::Append } else { Takes::Upsert }
    }

    fn to_take_changes(&self, _table: &TableDef) -> Option<&'static str> {
        Some("declare PRIMARY KEY (…) NOT ENFORCED")
    }

    fn splits(&self, _table: &TableDef, _context: &Context) -> Result<Vec<String>> {
        Ok((0..source::SPLITS).map(|split| split.to_string()).collect())
    }

    fn open_source(
        &self,
        table: &TableDef,
        projection: &[usize],
        splits: &[SplitStart],
        context: &Context,
    ) -> Result<Box<dyn SourceReader>> {
        Ok(Box::new(source::Source::open(Settings::open(table, &context.base_dir)?, table, projection, splits)?))
    }

    fn finds_rows(&self, _table: &TableDef) -> bool {
        true
    }

    fn open_found(
        &self,
        table: &TableDef,
        projection: &[usize],
        wanted: &[OneOf],
        context: &Context,
    ) -> Result<Option<Box<dyn SourceReader>>> {
        let found = found::open(Settings::open(table, &context.base_dir)?, table, projection, wanted)?;
        Ok(found.map(|found| Box::new(found) as Box<dyn SourceReader>))
    }

    fn open_sink(&self, table: &TableDef, context: &Context) -> Result<Box<dyn Sink>> {
        Ok(Box::new(sink::CassandraSink::open(Settings::open(table, &context.base_dir)?, table, context)?))
    }

    fn lookup_keys(&self, table: &TableDef, equal: &[usize]) -> std::result::Result<Vec<usize>, Diagnostic> {
        lookup::keys(table, equal)
    }

    fn open_lookup(
        &self,
        table: &TableDef,
        keys: &[usize],
        projection: &[usize],
        context: &Context,
    ) -> Result<Box<dyn Lookup>> {
        Ok(Box::new(lookup::CassandraLookup::open(Settings::open(table, &context.base_dir)?, table, keys, projection)?))
    }
}
