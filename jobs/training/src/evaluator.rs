//! The evaluator of a training: judges its checkpoints on the held-out rows, beside the training, which does not wait for it.
//!
//! Invariant: it only reads. Of several checkpoints that came while it judged one it takes the newest; the last one that was
//! written before it was told to stop is judged before it ends.

use crate::batches::Examples;
use crate::checkpoint;
use crate::data::{Data, Dataset, Rows};
use crate::graph::{Graph, Source, Wanted};
use crate::metric;
use crate::preprocess::Preprocessing;
use crate::train::Error;
use jobs::TrainBody;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Between looks for a newer checkpoint; listing a folder is next to nothing.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a checkpoint is worth.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    pub step: u64,
    pub epoch: u64,
    /// By name; none where none has a value.
    pub metrics: BTreeMap<&'static str, f64>,
    /// Of the one that epochs are compared by.
    pub metric_name: &'static str,
}

/// Judges the checkpoints in `folder` until `stop` is set; how many there were.
pub fn evaluate(
    body: &TrainBody,
    data: Data,
    folder: &Path,
    reports: &mut dyn FnMut(Evaluation),
    stop: &AtomicBool,
) -> Result<u64, Error> {
    let mut dataset = Dataset::new(&data, body)?;
    drop(data);
    let sources = Source::all(dataset.preprocessing().shapes().map_err(crate::data::Error::from)?);
    let (layers, output, outputs) = (&body.layers[..], body.output.as_deref(), dataset.outputs);
    let mut graph = Graph::new(Wanted { sources: &sources, layers, output, outputs }, body.seed)?;
    let (_, held_out) = dataset.take_rows();
    let mut prepared = Prepared { rows: held_out, by: None };
    let (mut newest, mut judged) = (None, 0);
    loop {
        // Asked before the folder is looked at, so that whatever was there when the training ended is judged.
        let told = stop.load(Ordering::Relaxed);
        let step = checkpoint::newest_step(folder)?;
        if step > newest
            && let Some(evaluation) = judge(body, folder, &mut graph, &mut prepared)?
        {
            // A newer one may have come since the folder was listed.
            newest = Some(evaluation.step.max(step.unwrap_or_default()));
            judged += 1;
            reports(evaluation);
        } else if told {
            return Ok(judged);
        } else {
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// The held-out rows as the graph reads them.
struct Prepared {
    rows: Rows,
    /// What the training has learnt of its rows, which is the same in all checkpoints of a run.
    by: Option<(Preprocessing, Examples)>,
}

impl Prepared {
    fn examples(&mut self, preprocessing: Preprocessing) -> &Examples {
        if self.by.as_ref().is_none_or(|(by, _)| *by != preprocessing) {
            let examples = self.rows.clone().prepared(&preprocessing);
            self.by = Some((preprocessing, examples));
        }
        match &self.by {
            Some((_, examples)) => examples,
            None => unreachable!("prepared just now"),
        }
    }
}

/// `None` where the checkpoint was removed while it was read, because newer ones have come.
fn judge(
    body: &TrainBody,
    folder: &Path,
    graph: &mut Graph<f32>,
    prepared: &mut Prepared,
) -> Result<Option<Evaluation>, Error> {
    let bytes = match checkpoint::newest(folder) {
        Ok((Some(bytes), _)) => bytes,
        Ok((None, _)) | Err(checkpoint::Error::NoneReadable { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let other = |source| checkpoint::Error::OtherGraph { path: folder.to_path_buf(), source };
    let checkpoint = checkpoint::decode(&bytes, graph.slots(), &[]).map_err(other)?;
    graph.set_weights(&checkpoint.weights);
    let held_out = prepared.examples(checkpoint.preprocessing);
    let logits = metric::logits(graph, held_out)?;
    Ok(Some(Evaluation {
        step: checkpoint.place.step,
        epoch: checkpoint.place.epoch,
        metrics: metric::all(body.loss, &logits, &held_out.targets),
        metric_name: metric::name(body.loss),
    }))
}
