//! What a query may name: tables with their columns, functions, models. For completion.

use super::known::Known;
use super::{Queries, QueryError};
use crate::view::{CatalogTable, CatalogView, ColumnView};
use arrow::datatypes::Schema;
use datafusion::execution::FunctionRegistry;
use std::collections::{BTreeMap, BTreeSet};
use streaming::sql::{ColumnKind, sql_name};

impl Queries {
    pub async fn catalog(&self) -> Result<CatalogView, QueryError> {
        let known = self.known().await?;
        let stored = self.store.list();
        let mut tables: BTreeMap<String, CatalogTable> = BTreeMap::new();
        for known in known.values() {
            tables.insert(known.table.name.text.to_lowercase(), of_file(known));
        }
        for table in stored {
            let fields = table.schema.fields();
            let key = table.primary_key.iter().map(|at| fields[*at].name().clone()).collect();
            let columns = columns(&table.schema);
            let shown = CatalogTable { name: table.name.clone(), kind: "table".to_string(), columns, key, job: None };
            tables.insert(table.name.to_lowercase(), shown);
        }
        let model_dir = self.model_dir.clone();
        let listed =
            self.threads.spawn_blocking(move || crate::models::list(&model_dir, None, &Default::default())).await;
        let listed = listed.map_err(|error| error.to_string()).and_then(|listed| listed);
        let listed = listed.map_err(|error| QueryError::Failed(format!("failed to list the models: {error}")))?;
        let models: BTreeSet<String> = listed.models.into_iter().map(|model| model.model).collect();
        let models = models.into_iter().collect();
        Ok(CatalogView { tables: tables.into_values().collect(), functions: functions(), models })
    }
}

fn of_file(known: &Known) -> CatalogTable {
    let def = &known.table.def;
    CatalogTable {
        name: known.table.name.text.clone(),
        kind: "stream".to_string(),
        columns: known
            .table
            .columns
            .iter()
            .map(|column| {
                let r#type = match &column.kind {
                    ColumnKind::Physical(data_type) => sql_name(data_type),
                    // Known once the table is planned.
                    ColumnKind::Computed(..) => String::new(),
                };
                ColumnView { name: column.name.text.clone(), r#type }
            })
            .collect(),
        key: def.primary_key.iter().map(|at| def.schema.field(*at).name().clone()).collect(),
        job: Some(known.job.clone()),
    }
}

fn columns(schema: &Schema) -> Vec<ColumnView> {
    let column = |field: &std::sync::Arc<arrow::datatypes::Field>| ColumnView {
        name: field.name().clone(),
        r#type: sql_name(field.data_type()),
    };
    schema.fields().iter().map(column).collect()
}

/// Those of DataFusion, of streams, and our own.
fn functions() -> Vec<String> {
    let state = datafusion::prelude::SessionContext::new().state();
    let mut names: BTreeSet<String> = state.udfs().into_iter().collect();
    names.extend(state.udafs());
    names.extend(state.udwfs());
    let own = crate::functions::declared();
    names.extend(own.scalars().map(|function| function.name().to_string()));
    names.extend(own.aggregates().map(|function| function.name().to_string()));
    names.extend(["tumble", "hop", "session", "cumulate", "current_watermark"].map(String::from));
    names.into_iter().collect()
}
