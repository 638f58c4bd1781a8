//! The rows a model is trained on: read by SQL once, then kept with the job's checkpoints.
//!
//! Invariant: every rank and every generation of a training job sees the same rows in the same order, however the table
//! grows meanwhile; so a resumed run is the run that was interrupted. So do all trials of a sweep, which are compared by them.

use crate::server::owner::chain;
use arrow::array::RecordBatch;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use connectors::Context;
use jobs::TrainBody;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use streaming::batch::BatchContext;
use training::Data;

/// Between looks at a table that has too few rows yet, or for the rows that the chief writes.
pub const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Reads the training rows, and the held-out ones if the job has a query for them.
pub async fn read(body: &TrainBody, context: &Context) -> Result<Data, String> {
    let train = query(body, &body.train_query, context).await?;
    let test = match &body.test_query {
        Some(test) => Some(query(body, test, context).await?),
        None => None,
    };
    Ok(Data { train, test })
}

async fn query(body: &TrainBody, query: &str, context: &Context) -> Result<Vec<RecordBatch>, String> {
    let script = crate::functions::parse(&body.sql).map_err(told)?;
    // The file may score in other statements than this; here nothing does.
    let functions = crate::functions::declared();
    streaming::batch::collect(&script, query, &functions, BatchContext::new(context.clone()))
        .await
        .map_err(|error| format!("read the training rows of model '{}': {}", body.model, chain(&error)))
}

fn told(wrong: Vec<jobs::Diagnostic>) -> String {
    let all: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    format!("understand the tables of the training job: {}", all.join("; "))
}

pub fn n_rows(data: &Data) -> u64 {
    data.train.iter().map(|batch| batch.num_rows() as u64).sum()
}

/// The kept rows, if the chief has written them.
pub fn kept(folder: &Path) -> Result<Option<Data>, String> {
    let Some(train) = read_file(&file(folder, "train"))? else { return Ok(None) };
    // Written before `train`, whose appearance says that all is there.
    let test = read_file(&file(folder, "test"))?;
    Ok(Some(Data { train, test }))
}

/// Where the rows of a training are kept.
#[derive(Clone, Debug)]
pub enum Rows {
    /// With its checkpoints; nobody else writes there.
    Own(PathBuf),
    /// In a folder of all trials of a sweep: whose chief reads them first, keeps them for all.
    OfAll(PathBuf),
}

impl Rows {
    pub fn folder(&self) -> &Path {
        match self {
            Self::Own(folder) | Self::OfAll(folder) => folder,
        }
    }

    /// Keeps the rows, unless another has kept some meanwhile.
    pub fn keep(&self, data: &Data) -> Result<(), String> {
        let folder = match self {
            Self::Own(folder) => return keep(folder, data),
            Self::OfAll(folder) => folder,
        };
        let unfinished = folder.with_extension(format!("{}.part", uuid::Uuid::new_v4().simple()));
        keep(&unfinished, data)?;
        match std::fs::rename(&unfinished, folder) {
            Ok(()) => Ok(()),
            // A folder that has files is not replaced.
            Err(_) if file(folder, "train").exists() => std::fs::remove_dir_all(&unfinished)
                .map_err(|error| format!("remove the folder {}: {error}", unfinished.display())),
            Err(error) => Err(format!("keep the training rows in {}: {error}", folder.display())),
        }
    }
}

/// Keeps the rows: whole or not at all.
fn keep(folder: &Path, data: &Data) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|error| format!("make the folder {}: {error}", folder.display()))?;
    if let Some(test) = &data.test {
        write_file(&file(folder, "test"), test)?;
    }
    write_file(&file(folder, "train"), &data.train)
}

fn file(folder: &Path, part: &str) -> PathBuf {
    folder.join(format!("{part}.arrow"))
}

fn read_file(path: &Path) -> Result<Option<Vec<RecordBatch>>, String> {
    let failed = |error: &dyn std::error::Error| {
        format!("read the kept training rows {}: {}; remove the file to read them anew", path.display(), chain(error))
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&error)),
    };
    let reader = FileReader::try_new(file, None).map_err(|error| failed(&error))?;
    reader.collect::<Result<Vec<_>, _>>().map(Some).map_err(|error| failed(&error))
}

fn write_file(path: &Path, batches: &[RecordBatch]) -> Result<(), String> {
    let failed =
        |error: &dyn std::error::Error| format!("keep the training rows in {}: {}", path.display(), chain(error));
    let Some(first) = batches.first() else { return Ok(()) };
    let unfinished = path.with_extension("part");
    let file = File::create(&unfinished).map_err(|error| failed(&error))?;
    let mut writer = FileWriter::try_new(file, &first.schema()).map_err(|error| failed(&error))?;
    for batch in batches {
        writer.write(batch).map_err(|error| failed(&error))?;
    }
    let mut file = writer.into_inner().map_err(|error| failed(&error))?;
    file.flush().and_then(|()| file.sync_all()).map_err(|error| failed(&error))?;
    std::fs::rename(&unfinished, path).map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;
    use std::sync::Arc;

    fn data(values: &[i64]) -> Data {
        let batch = |values: &[i64]| {
            let column: arrow::array::ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
            RecordBatch::try_from_iter([("a", column)]).expect("a batch")
        };
        Data { train: vec![batch(values)], test: Some(vec![batch(&values[..1])]) }
    }

    #[test]
    fn of_several_trials_the_rows_of_one_are_kept_for_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let rows = Rows::OfAll(folder.path().join("rows/sub"));
        assert!(kept(rows.folder()).expect("nothing").is_none());
        for values in [&[1, 2, 3], &[4, 5, 6]] {
            rows.keep(&data(values)).expect("room");
            let kept = kept(rows.folder()).expect("rows").expect("rows");
            assert_eq!(kept.train, data(&[1, 2, 3]).train);
            assert_eq!(kept.test, data(&[1]).test, "of the same read");
        }
        let left: Vec<_> = std::fs::read_dir(folder.path().join("rows")).expect("a folder").collect();
        assert_eq!(left.len(), 1, "nothing unfinished is left: {left:?}");
    }
}
