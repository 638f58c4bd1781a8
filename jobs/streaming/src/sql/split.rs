//! Splits the statements of a file into jobs, and says what each reads and writes.

use super::statements::{Script, SelectQuery};
use jobs::text::model_reference;
use std::collections::{BTreeMap, BTreeSet};

/// One job of a group. `reads` and `writes` are tables, as they were declared; views are seen through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScriptJob {
    /// INSERTs that run as one dataflow.
    Inserts { name: String, statements: Vec<usize>, models: Vec<String>, reads: Vec<String>, writes: Vec<String> },
    /// A CREATE MODEL.
    Model { name: String, statement: usize, reads: Vec<String> },
    /// A SELECT by itself.
    Query { statement: usize, models: Vec<String>, reads: Vec<String> },
}

impl ScriptJob {
    /// A SELECT by itself has no name.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Inserts { name, .. } | Self::Model { name, .. } => Some(name),
            Self::Query { .. } => None,
        }
    }

    pub fn reads(&self) -> &[String] {
        match self {
            Self::Inserts { reads, .. } | Self::Model { reads, .. } | Self::Query { reads, .. } => reads,
        }
    }

    pub fn writes(&self) -> &[String] {
        match self {
            Self::Inserts { writes, .. } => writes,
            Self::Model { .. } | Self::Query { .. } => &[],
        }
    }

    /// Models that `predict` names in it.
    pub fn models(&self) -> &[String] {
        match self {
            Self::Inserts { models, .. } | Self::Query { models, .. } => models,
            Self::Model { .. } => &[],
        }
    }
}

/// Names as they were declared.
struct Reach {
    tables: BTreeSet<String>,
    /// Tables that are declared by a query, which is read in their place.
    written: BTreeSet<String>,
    models: BTreeSet<String>,
    /// Whether a table is joined as it is at a moment.
    as_of: bool,
}

impl Script {
    /// The jobs of this file: INSERTs without `predict` are one job, those with it are one per set of models, since they
    /// wait for these; every model and every bare SELECT is a job by itself.
    pub fn jobs(&self) -> Vec<ScriptJob> {
        let mut sets: BTreeMap<BTreeSet<String>, Vec<usize>> = BTreeMap::new();
        for (at, insert) in self.inserts() {
            sets.entry(self.reach(&insert.query).models).or_default().push(at);
        }
        let mut jobs: Vec<ScriptJob> = Vec::new();
        for (models, statements) in sets {
            let (mut reads, mut writes) = (BTreeSet::new(), Vec::new());
            for at in &statements {
                if let Some(insert) = self.statements[*at].body.insert() {
                    reads.extend(self.reach(&insert.query).tables);
                    let written = self.table(&insert.table.text).map_or(&insert.table.text, |table| &table.name.text);
                    if !writes.contains(written) {
                        writes.push(written.clone());
                    }
                }
            }
            for late in super::late_rows::written(self, reads.iter()) {
                if !writes.contains(&late) {
                    writes.push(late);
                }
            }
            let first = writes.first().cloned().unwrap_or_else(|| "main".into());
            let taken =
                jobs.iter().any(|job| job.name() == Some(&first)) || self.models().any(|(_, m)| m.name.text == first);
            let name = match models.first() {
                Some(model) if taken => format!("{first}-{}", model.replace('@', "-")),
                None if taken => format!("{first}-insert"),
                _ => first,
            };
            let (models, reads) = (models.into_iter().collect(), reads.into_iter().collect());
            jobs.push(ScriptJob::Inserts { name, statements, models, reads, writes });
        }
        for (statement, model) in self.models() {
            // It may train on the rows that a query of the file has written so far.
            let Reach { mut tables, written, .. } = self.reach(&model.query);
            tables.extend(written);
            let reads = tables.into_iter().collect();
            jobs.push(ScriptJob::Model { name: model.name.text.clone(), statement, reads });
        }
        for (statement, query) in self.queries() {
            let Reach { tables: reads, models, .. } = self.reach(query);
            let (reads, models) = (reads.into_iter().collect(), models.into_iter().collect());
            jobs.push(ScriptJob::Query { statement, models, reads });
        }
        jobs
    }

    /// For each of `jobs` the indices of the jobs that it needs: the ones that write a table it trains on, and the
    /// models of this file that it predicts with.
    pub fn dependencies(&self, jobs: &[ScriptJob]) -> Vec<Vec<usize>> {
        let needs = |job: &ScriptJob, other: &ScriptJob| match (job, other) {
            (ScriptJob::Model { reads, .. }, ScriptJob::Inserts { writes, .. }) => {
                reads.iter().any(|table| writes.contains(table))
            }
            (ScriptJob::Inserts { models, .. } | ScriptJob::Query { models, .. }, ScriptJob::Model { name, .. }) => {
                models.iter().any(|model| model_reference(model).0 == name)
            }
            _ => false,
        };
        jobs.iter()
            .map(|job| jobs.iter().enumerate().filter(|(_, other)| needs(job, other)).map(|(at, _)| at).collect())
            .collect()
    }

    /// Tables that a query reads, as declared, through views.
    pub(crate) fn tables_of(&self, query: &SelectQuery) -> BTreeSet<String> {
        self.reach(query).tables
    }

    /// Whether a query, or a view that it reads, joins a table as it is at a moment.
    pub(crate) fn has_as_of(&self, query: &SelectQuery) -> bool {
        self.reach(query).as_of
    }

    /// What a query reaches, through views and through tables that are declared by a query.
    fn reach(&self, query: &SelectQuery) -> Reach {
        let (mut tables, mut written, mut models) = (BTreeSet::new(), BTreeSet::new(), query.models.clone());
        let mut waiting: Vec<&str> = query.relations.iter().map(String::as_str).collect();
        let (mut seen, mut as_of) = (BTreeSet::new(), query.as_of);
        while let Some(name) = waiting.pop() {
            if !seen.insert(name) {
                continue;
            }
            let mut views = self.statements.iter().filter_map(|statement| statement.body.view());
            let table = self.table(name).map(|table| table.name.text.clone());
            match views.find(|view| view.name.key() == *name) {
                Some(view) => {
                    written.extend(table);
                    models.extend(view.query.models.iter().cloned());
                    as_of |= view.query.as_of;
                    waiting.extend(view.query.relations.iter().map(String::as_str));
                }
                None => tables.extend(table),
            }
        }
        // A model is known under the name of its CREATE MODEL, when this file has one.
        let models = models.into_iter().map(|model| {
            let (name, which) = model_reference(&model);
            let key = name.to_lowercase();
            let Some((_, declared)) = self.models().find(|(_, m)| m.name.key() == key) else { return model };
            let name = &declared.name.text;
            which.map_or_else(|| name.clone(), |which| format!("{name}@{which}"))
        });
        Reach { models: models.collect(), tables, written, as_of }
    }
}
