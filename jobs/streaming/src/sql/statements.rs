//! What a job file says, statement by statement, with where it says it.
//!
//! Invariant: a [`Script`] that exists has been read without mistakes in its statements, names, options and settings;
//! whether its queries fit its tables is found out by planning.

use super::text::{Name, Positions, Span, Tok};
use crate::dataflow::LookupCache;
use arrow::datatypes::DataType;
use connectors::{OptionEntry, TableDef};
use datafusion::sql::sqlparser::ast;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// `SET key = value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub key: String,
    pub value: String,
    pub key_span: Span,
    pub value_span: Span,
}

/// A whole file.
#[derive(Clone, Debug)]
pub struct Script {
    pub statements: Vec<Statement>,
    pub settings: Vec<Setting>,
    pub(crate) positions: Positions,
    /// Written spelling of declared names by their lower case.
    pub(crate) spelling: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
pub struct Statement {
    pub span: Span,
    pub body: StatementBody,
    pub(crate) tokens: Arc<[Tok]>,
}

#[derive(Clone, Debug)]
pub enum StatementBody {
    Set(Setting),
    Table(Arc<TableStatement>),
    View(ViewStatement),
    /// `CREATE TABLE … AS SELECT` and `CREATE MATERIALIZED VIEW`.
    TableAs(Box<TableAsStatement>),
    Insert(InsertStatement),
    Model(ModelStatement),
    /// A SELECT by itself.
    Query(SelectQuery),
    /// Shows the plan of what it holds, an INSERT or a SELECT.
    Explain(Box<StatementBody>),
    /// Shows the columns of a table or view.
    Describe(Name),
    Show(ShowWhat),
}

/// What SHOW lists of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShowWhat {
    Tables,
    Views,
    Jobs,
}

#[derive(Clone, Debug)]
pub struct TableStatement {
    pub name: Name,
    pub columns: Vec<Column>,
    pub watermark: Option<WatermarkClause>,
    pub partitioned_by: Vec<Name>,
    pub span: Span,
    /// What the connector sees: physical columns and its options.
    pub def: TableDef,
    /// From the option `watermark.idle`, which is the engine's and not the connector's.
    pub idle_ms: Option<u64>,
    /// From the option `allowed_lateness`: for how long windows over its event time still take rows after their end.
    pub lateness_us: i64,
    /// From the option `late_rows`: the table that gets its rows that come too late for a window, with its place.
    pub late_rows: Option<Name>,
    /// From the options `lookup.cache.*`, which are the engine's too.
    pub lookup_cache: Option<LookupCache>,
    /// Columns of `def` that are NOT NULL, which sinks are held to.
    pub not_null: Vec<usize>,
    /// Declared as TEMPORARY: nothing of it is to outlive the jobs of its file.
    pub temporary: Option<Span>,
}

#[derive(Clone, Debug)]
pub struct Column {
    pub name: Name,
    pub kind: ColumnKind,
}

#[derive(Clone, Debug)]
pub enum ColumnKind {
    Physical(DataType),
    /// `name AS expression`.
    Computed(Box<ast::Expr>, Span),
}

/// `WATERMARK FOR column AS expression`.
#[derive(Clone, Debug)]
pub struct WatermarkClause {
    pub column: Name,
    pub expr: Box<ast::Expr>,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub struct ViewStatement {
    pub name: Name,
    /// New names for the query's columns, when given.
    pub columns: Vec<Name>,
    pub query: SelectQuery,
}

/// A table that is declared and filled by one query.
#[derive(Clone, Debug)]
pub struct TableAsStatement {
    /// Declared as a MATERIALIZED VIEW.
    pub materialized: bool,
    /// What other statements of the file read: the query itself, so that they see rows as they come.
    pub view: ViewStatement,
    /// What fills the table.
    pub insert: InsertStatement,
    /// Columns and key follow from the query.
    pub table: Arc<TableStatement>,
}

#[derive(Clone, Debug)]
pub struct InsertStatement {
    pub table: Name,
    /// Columns that are written, when given; the others become NULL.
    pub columns: Vec<Name>,
    pub query: SelectQuery,
}

/// `CREATE MODEL name WITH (…) AS SELECT …`.
#[derive(Clone, Debug)]
pub struct ModelStatement {
    pub name: Name,
    pub options: Vec<OptionEntry>,
    /// Text of the SELECT.
    pub query_text: String,
    pub query: SelectQuery,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub struct SelectQuery {
    pub ast: Box<ast::Query>,
    pub span: Span,
    /// Relations that it names, without those that it defines itself, in lower case.
    pub(crate) relations: BTreeSet<String>,
    /// Models that it names in `predict('model', …)`.
    pub(crate) models: BTreeSet<String>,
    /// Whether it says `FOR SYSTEM_TIME AS OF`.
    pub(crate) as_of: bool,
}

impl StatementBody {
    /// The query in it, if there is one.
    pub fn query(&self) -> Option<&SelectQuery> {
        match self {
            Self::Set(_) | Self::Table(_) | Self::Describe(_) | Self::Show(_) => None,
            Self::View(view) => Some(&view.query),
            Self::TableAs(table) => Some(&table.view.query),
            Self::Insert(insert) => Some(&insert.query),
            Self::Model(model) => Some(&model.query),
            Self::Query(query) => Some(query),
            Self::Explain(inner) => inner.query(),
        }
    }

    /// What it writes to a table, if it does.
    pub fn insert(&self) -> Option<&InsertStatement> {
        match self {
            Self::Insert(insert) => Some(insert),
            Self::TableAs(table) => Some(&table.insert),
            _ => None,
        }
    }

    /// What an EXPLAIN holds; anything else is itself.
    pub fn explained(&self) -> &Self {
        match self {
            Self::Explain(inner) => inner.explained(),
            body => body,
        }
    }

    /// Whether it only shows something of the file: nothing of it runs on a cluster.
    pub fn only_shows(&self) -> bool {
        matches!(self, Self::Explain(_) | Self::Describe(_) | Self::Show(_))
    }

    /// The query that stands for a name of its own.
    pub fn view(&self) -> Option<&ViewStatement> {
        match self {
            Self::View(view) => Some(view),
            Self::TableAs(table) => Some(&table.view),
            _ => None,
        }
    }
}

impl Script {
    pub fn text(&self) -> &str {
        &self.positions.text
    }

    pub fn tables(&self) -> impl Iterator<Item = &Arc<TableStatement>> {
        self.statements.iter().filter_map(|statement| match &statement.body {
            StatementBody::Table(table) => Some(table),
            StatementBody::TableAs(table) => Some(&table.table),
            _ => None,
        })
    }

    pub fn views(&self) -> impl Iterator<Item = &ViewStatement> {
        self.statements.iter().filter_map(|statement| match &statement.body {
            StatementBody::View(view) => Some(view),
            _ => None,
        })
    }

    /// Tables that are declared by a query.
    pub fn tables_as(&self) -> impl Iterator<Item = &TableAsStatement> {
        self.statements.iter().filter_map(|statement| match &statement.body {
            StatementBody::TableAs(table) => Some(table.as_ref()),
            _ => None,
        })
    }

    /// With their index among the statements; tables that are declared by a query are filled by it.
    pub fn inserts(&self) -> impl Iterator<Item = (usize, &InsertStatement)> {
        let statements = self.statements.iter().enumerate();
        statements.filter_map(|(at, statement)| statement.body.insert().map(|insert| (at, insert)))
    }

    /// With their index among the statements.
    pub fn models(&self) -> impl Iterator<Item = (usize, &ModelStatement)> {
        self.statements.iter().enumerate().filter_map(|(at, statement)| match &statement.body {
            StatementBody::Model(model) => Some((at, model)),
            _ => None,
        })
    }

    /// SELECTs that stand by themselves, with their index among the statements.
    pub fn queries(&self) -> impl Iterator<Item = (usize, &SelectQuery)> {
        self.statements.iter().enumerate().filter_map(|(at, statement)| match &statement.body {
            StatementBody::Query(query) => Some((at, query)),
            _ => None,
        })
    }

    /// A declared name as its declaration writes it.
    pub(crate) fn spelled<'s>(&'s self, name: &'s str) -> &'s str {
        self.spelling.get(name).map_or(name, String::as_str)
    }

    /// The table of this name, without regard to case.
    pub fn table(&self, name: &str) -> Option<&Arc<TableStatement>> {
        let key = name.to_lowercase();
        self.tables().find(|table| table.name.key() == key)
    }

    /// The value that was set last.
    pub fn setting(&self, key: &str) -> Option<&Setting> {
        self.settings.iter().rev().find(|setting| setting.key == key)
    }
}
