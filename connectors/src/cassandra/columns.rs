//! The columns of a table that declares none, as the server has them: those of its key first, then the others by name.

use super::schema;
use super::session;
use super::settings::Settings;
use super::types;
use crate::api::{Columns, Error, Result, TableDef};

pub fn columns(settings: &Settings, table: &TableDef) -> Result<Columns> {
    let session = session::connect(settings)?;
    session::block_on(async {
        schema::wait_until_whole(&session, settings).await?;
        let state = session.get_cluster_state();
        let there = schema::table_of(&state, settings)?;
        let key: Vec<&String> = there.partition_key.iter().chain(&there.clustering_key).collect();
        let mut others: Vec<&String> = there.columns.keys().filter(|name| !key.contains(name)).collect();
        others.sort();
        let mut columns = Vec::with_capacity(there.columns.len());
        for name in key.iter().copied().chain(others) {
            let Some(column) = there.columns.get(name) else { continue };
            let Some(kind) = types::declared(&column.typ) else {
                return Err(Error::Fatal(format!(
                    "column '{name}' of table {} on {} is {}, for which SQL has no type: declare the columns of table '{}' \
                     that are wanted",
                    settings.quoted_table(),
                    settings.place(),
                    types::cql_name(&column.typ),
                    table.name
                )));
            };
            columns.push((name.clone(), kind));
        }
        Ok(Columns { columns, primary_key: (0..key.len()).collect() })
    })?
}
