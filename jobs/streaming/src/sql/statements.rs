//! What a job file says, statement by statement, with where it says it.
//!
//! Invariant: a [`Script`] that exists has been read without mistakes in its statements, names, options and settings;
//! whether its queries fit its tables is found out by planning.

use super::text::{Name, Positions, Span, Tok};
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
    Insert(InsertStatement),
    Model(ModelStatement),
    /// A SELECT by itself.
    Query(SelectQuery),
    /// Shows the plan of what it holds, an INSERT or a SELECT.
    Explain(Box<StatementBody>),
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
}

impl StatementBody {
    /// The query in it, if there is one.
    pub fn query(&self) -> Option<&SelectQuery> {
        match self {
            Self::Set(_) | Self::Table(_) => None,
            Self::View(view) => Some(&view.query),
            Self::Insert(insert) => Some(&insert.query),
            Self::Model(model) => Some(&model.query),
            Self::Query(query) => Some(query),
            Self::Explain(inner) => inner.query(),
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
            _ => None,
        })
    }

    pub fn views(&self) -> impl Iterator<Item = &ViewStatement> {
        self.statements.iter().filter_map(|statement| match &statement.body {
            StatementBody::View(view) => Some(view),
            _ => None,
        })
    }

    /// With their index among the statements.
    pub fn inserts(&self) -> impl Iterator<Item = (usize, &InsertStatement)> {
        self.statements.iter().enumerate().filter_map(|(at, statement)| match &statement.body {
            StatementBody::Insert(insert) => Some((at, insert)),
            _ => None,
        })
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
