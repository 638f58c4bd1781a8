//! `CREATE MODEL … WITH (…, mode = 'continuous') AS SELECT …`, as the stream that it is.
//!
//! The statement is rewritten as the table that the query writes to, over as many bytes, so that every place in the file stays what
//! it was; what is to be learned stands in a setting at the end. Tasks plan by the text alone, so that text is the whole job.

use super::document::Entry;
use super::model::{self, Source};
use super::reader::{Reader, entries_of_options};
use super::{shape, sql_file};
use crate::continuous::{BODIES, Bodies, Continuous, NAME};
use arrow::datatypes::SchemaRef;
use jobs::Diagnostic;
use jobs::train::{Schedule, Strategy};
use std::sync::Arc;
use streaming::dataflow::Operator;
use streaming::sql::{self, ModelStatement, Script, StatementBody};

/// Options of models that have an end, or are judged by rows that are held out.
const FOREIGN: [&str; 14] = [
    "epochs",
    "steps",
    "patience",
    "min_delta",
    "keep_best",
    "evaluator",
    "workers",
    "min_workers",
    "grow_after",
    "strategy",
    "servers",
    "staleness",
    "accumulate",
    "test_fraction",
];

/// Whether what a model is trained on has no end.
pub fn is_continuous(model: &ModelStatement) -> bool {
    let mode = model.options.iter().find(|option| option.key == "mode");
    mode.is_some_and(|mode| mode.value.trim().eq_ignore_ascii_case("continuous"))
}

/// The text with its continuous models as tables; nothing where there are none.
pub async fn rewritten(text: &str, script: &Script) -> Result<Option<String>, Vec<Diagnostic>> {
    let statements = script.statements.iter().enumerate();
    let models: Vec<(usize, &ModelStatement)> = statements
        .filter_map(|(at, statement)| match &statement.body {
            StatementBody::Model(model) if is_continuous(model) => Some((at, model)),
            _ => None,
        })
        .collect();
    if models.is_empty() {
        return Ok(None);
    }
    let mut tables = text.to_string();
    for (_, model) in &models {
        let (start, end) = (model.span.0, model.query.span.0);
        let table =
            format!("CREATE TABLE {} WITH (connector = '{NAME}') AS", &text[model.name.span.0..model.name.span.1]);
        if table.len() > end - start {
            return Err(vec![Diagnostic::new("there is too little of it to be a model").at(model.span)]);
        }
        tables.replace_range(start..end, &format!("{table:<width$}", width = end - start));
    }
    let script = crate::functions::parse(&tables)?;
    let (mut bodies, mut diagnostics) = (Bodies::new(), Vec::new());
    for (at, model) in models {
        match columns(&script, at, &model.name.text).await {
            Ok(schema) => {
                bodies.insert(model.name.text.clone(), continuous(model, &schema, &mut diagnostics));
            }
            Err(mistakes) => diagnostics.extend(mistakes),
        }
    }
    if !diagnostics.is_empty() {
        return Err(diagnostics);
    }
    let bodies = serde_json::to_string(&bodies);
    let bodies =
        bodies.map_err(|error| vec![Diagnostic::new(format!("the models cannot be written down: {error}"))])?;
    Ok(Some(format!("{tables}\n;\nSET target.{NAME}.{BODIES} = '{}';\n", bodies.replace('\'', "''"))))
}

/// What the query of a model gives.
async fn columns(script: &Script, statement: usize, name: &str) -> Result<SchemaRef, Vec<Diagnostic>> {
    let dataflow = sql::plan(script, &[statement], &crate::functions::declared()).await?;
    let schema = dataflow.nodes.iter().find_map(|node| match &node.operator {
        Operator::Sink { table } if table.name == name => Some(Arc::clone(&table.schema)),
        _ => None,
    });
    schema.ok_or_else(|| vec![Diagnostic::new(format!("nothing is written to model '{name}'"))])
}

fn continuous(model: &ModelStatement, schema: &SchemaRef, diagnostics: &mut Vec<Diagnostic>) -> Continuous {
    let before = diagnostics.len();
    let entries: Vec<Entry> = entries_of_options(&model.options);
    let mut reader = Reader::new(&shape::SQL_MODEL, &entries, Some(model.name.span), diagnostics);
    for name in FOREIGN {
        if let Some(span) = reader.span(name) {
            reader.complain(Diagnostic::new(format!("a model with mode 'continuous' has no {name}")).at(span));
        }
    }
    let publish_steps = reader.whole("publish_steps").unwrap_or(1);
    let told_first = reader.has("min_rows");
    let source = Source {
        model: model.name.text.clone(),
        sql: String::new(),
        base_dir: String::new(),
        train_query: model.query_text.clone(),
        test_query: None,
        columns: Some(sql_file::column_names(schema)),
    };
    let (mut body, _) = model::of_sql(&mut reader, source);
    body.test_fraction = 0.0;
    if !told_first {
        body.min_rows = FIRST_ROWS;
    }
    if let Some(span) =
        reader.span("schedule").filter(|_| matches!(body.schedule, Schedule::Cosine { .. } | Schedule::Linear { .. }))
    {
        let ends = Diagnostic::new("this schedule falls until the last step, and there is none").at(span);
        reader.complain(ends.help("use 'constant' or 'step'"));
    }
    body.strategy = Strategy::AllReduce;
    if diagnostics.len() == before {
        diagnostics.extend(sql_file::check_features(schema, &body, model.name.span));
    }
    Continuous { body, publish_steps }
}

/// From so many rows it is learned what has to be known before the first step, unless min_rows says another number.
const FIRST_ROWS: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::super::tests::{mistakes, settled};
    use super::*;
    use jobs::JobBody;

    fn file(options: &str) -> String {
        format!(
            "SET job.cpus = '2';
             CREATE TABLE clicks (id BIGINT, price DOUBLE, city VARCHAR, bought BIGINT) WITH (connector = 'datagen');
             CREATE MODEL likes WITH (label = 'bought', task = 'binary', mode = 'continuous', ignore = 'id'{options}) AS
             SELECT id, price, bought FROM clicks WHERE price > 1;"
        )
    }

    #[tokio::test]
    async fn a_continuous_model_is_a_stream_of_one_slice() {
        let settled = settled(&file(", publish_steps = '50', batch = '32'"), "shop.sql").await;
        let [job] = settled.jobs.as_slice() else { panic!("{:?}", settled.jobs) };
        assert_eq!((job.id.as_str(), job.parallelism, job.resources.amount("cpus")), ("shop/likes", 1, 1.0));
        let JobBody::Stream(body) = &job.body else { panic!("{job:?}") };
        assert!(!body.bounded && !body.fingerprint.is_empty());
        // The text of the job is all that its tasks are told.
        let script = crate::functions::parse(&body.sql).expect("a script");
        let table = script.table("likes").expect("a table");
        let bodies: Bodies = serde_json::from_str(table.def.option(BODIES).expect("a model")).expect("a model");
        let Continuous { body, publish_steps } = &bodies["likes"];
        assert_eq!((*publish_steps, body.batch, body.min_rows, body.label.as_str()), (50, 32, 1_000, "bought"));
        assert_eq!(body.ignore, ["id"]);
    }

    #[tokio::test]
    async fn what_such_a_model_cannot_have_is_told_at_its_place() {
        let check = async |text: &str, word: &str, message: &str| {
            let found = mistakes(text, "shop.sql").await;
            let hit =
                found.iter().any(|(at, said, help)| at.contains(word) && format!("{said} {help}").contains(message));
            assert!(hit, "{text}\n{found:#?}\nexpected {message} at {word}");
        };
        check(&file(", epochs = '3'"), "3", "a model with mode 'continuous' has no epochs").await;
        check(&file(", workers = '2'"), "2", "has no workers").await;
        check(&file(", schedule = 'cosine'"), "cosine", "falls until the last step, and there is none").await;
        check(&file(", publish_steps = '0'"), "0", "publish_steps").await;
        check(
            &file("").replace("SELECT id, price, bought", "SELECT id, pricy, bought"),
            "pricy",
            "did you mean 'price'?",
        )
        .await;
        check(&file("").replace("SELECT id, price, bought", "SELECT id, city, bought"), "likes", "column 'city'").await;
        check(&file("").replace("label = 'bought'", "label = 'buoght'"), "likes", "'buoght'").await;
        let count = "SELECT price AS id, price, COUNT(*) AS bought FROM clicks GROUP BY price";
        let query = "SELECT id, price, bought FROM clicks WHERE price > 1";
        check(&file("").replace(query, count), "", "").await;
        check(&file("").replace("'continuous'", "'continous'"), "continous", "mode 'continous' is not known").await;
        let once = file(", publish_steps = '50'").replace("'continuous'", "'once'");
        check(
            &once.replace("'datagen'", "'datagen', rows = '10'"),
            "50",
            "publish_steps is a setting of mode 'continuous'",
        )
        .await;
    }
}
