//! How good the answers are: one metric by which epochs are compared, and others beside it.
//!
//! Accuracy for classes, area under the ROC curve for yes or no, root mean square error for values (mean absolute error where
//! that is what is minimised).

use crate::batches::{Batch, Buffer, Examples};
use crate::graph::operation::Values;
use crate::graph::{self, Graph};
use crate::loss::Targets;
use jobs::train::Loss;
use std::collections::BTreeMap;

/// Rows scored at once: enough for the matrix kernels to run at full speed, few enough that activations stay small.
const CHUNK_ROWS: usize = 4096;

/// Of the metric that epochs are compared by.
pub fn name(loss: Loss) -> &'static str {
    match loss {
        Loss::CrossEntropy => "accuracy",
        Loss::BinaryCrossEntropy | Loss::Hinge => "auc",
        Loss::MeanAbsoluteError => "mae",
        Loss::MeanSquaredError | Loss::Huber { .. } => "rmse",
    }
}

pub fn larger_is_better(loss: Loss) -> bool {
    matches!(loss, Loss::CrossEntropy | Loss::BinaryCrossEntropy | Loss::Hinge)
}

/// Logits of all rows, row by row.
pub fn logits(graph: &Graph<f32>, rows: &Examples) -> Result<Vec<f32>, graph::Error> {
    let mut logits = Vec::with_capacity(rows.len() * graph.outputs());
    let mut batch = Batch::default();
    for start in (0..rows.len()).step_by(CHUNK_ROWS) {
        rows.slice(start, (start + CHUNK_ROWS).min(rows.len()), &mut batch);
        let inputs: Vec<Values<'_, f32>> = batch.inputs.iter().map(Buffer::values).collect();
        graph.infer(&inputs, batch.rows, &mut logits)?;
    }
    Ok(logits)
}

/// All metrics that have a value, by name: none over no rows, and no AUC over one class.
pub fn all(loss: Loss, logits: &[f32], targets: &Targets) -> BTreeMap<&'static str, f64> {
    let mut metrics = BTreeMap::new();
    if targets.is_empty() {
        return metrics;
    }
    match targets {
        Targets::Classes(classes) => of_classes(logits, classes, &mut metrics),
        Targets::Values(labels) => match loss {
            Loss::BinaryCrossEntropy | Loss::Hinge => of_yes_or_no(loss, logits, labels, &mut metrics),
            _ => of_values(logits, labels, &mut metrics),
        },
    }
    metrics
}

/// More than so many classes have a top-5 accuracy.
const TOP: usize = 5;

fn of_classes(logits: &[f32], classes: &[u32], metrics: &mut BTreeMap<&'static str, f64>) {
    let (mut right, mut near, mut log_loss) = (0usize, 0usize, 0.0);
    let outputs = logits.len() / classes.len();
    for (row, class) in logits.chunks_exact(outputs).zip(classes) {
        let class = *class as usize;
        right += usize::from(largest(row) == class);
        near += usize::from(row.iter().filter(|logit| **logit > row[class]).count() < TOP);
        let most = f64::from(row[largest(row)]);
        let sum: f64 = row.iter().map(|logit| (f64::from(*logit) - most).exp()).sum();
        log_loss += most + sum.ln() - f64::from(row[class]);
    }
    let rows = classes.len() as f64;
    metrics.insert("accuracy", right as f64 / rows);
    metrics.insert("log_loss", log_loss / rows);
    if outputs > TOP {
        metrics.insert("top_5_accuracy", near as f64 / rows);
    }
}

/// A logit above 0 says yes: for binary cross-entropy that is a probability above one half.
fn of_yes_or_no(loss: Loss, logits: &[f32], labels: &[f32], metrics: &mut BTreeMap<&'static str, f64>) {
    let (mut right, mut true_yes, mut said_yes, mut yes, mut log_loss) = (0usize, 0usize, 0usize, 0usize, 0.0);
    for (logit, label) in logits.iter().zip(labels) {
        let (says, is) = (*logit > 0.0, *label > 0.5);
        right += usize::from(says == is);
        true_yes += usize::from(says && is);
        said_yes += usize::from(says);
        yes += usize::from(is);
        let (x, y) = (f64::from(*logit), f64::from(*label));
        log_loss += x.max(0.0) - x * y + (-x.abs()).exp().ln_1p();
    }
    let share = |part: usize, whole: usize| (whole > 0).then(|| part as f64 / whole as f64);
    metrics.extend(auc(logits, labels).map(|auc| ("auc", auc)));
    metrics.insert("accuracy", right as f64 / labels.len() as f64);
    // Of no rows that were called yes, or are, there is no share.
    metrics.extend(share(true_yes, said_yes).map(|precision| ("precision", precision)));
    metrics.extend(share(true_yes, yes).map(|recall| ("recall", recall)));
    metrics.extend(share(2 * true_yes, said_yes + yes).map(|f1| ("f1", f1)));
    if loss == Loss::BinaryCrossEntropy {
        metrics.insert("log_loss", log_loss / labels.len() as f64);
    }
}

fn of_values(logits: &[f32], labels: &[f32], metrics: &mut BTreeMap<&'static str, f64>) {
    let (mut squares, mut distances) = (0.0, 0.0);
    for (logit, label) in logits.iter().zip(labels) {
        let distance = f64::from(*logit) - f64::from(*label);
        squares += distance * distance;
        distances += distance.abs();
    }
    metrics.insert("rmse", (squares / labels.len() as f64).sqrt());
    metrics.insert("mae", distances / labels.len() as f64);
}

/// Index of the largest value, the first of equals.
pub fn largest(row: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in row.iter().enumerate() {
        if *value > row[best] {
            best = index;
        }
    }
    best
}

/// How often a one scores above a zero, ties counting half: the rank-sum form.
pub fn auc(scores: &[f32], labels: &[f32]) -> Option<f64> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_unstable_by(|left, right| scores[*left].total_cmp(&scores[*right]));
    let ones = labels.iter().filter(|label| **label > 0.5).count();
    let zeros = labels.len() - ones;
    if ones == 0 || zeros == 0 {
        return None;
    }
    let mut rank_sum = 0.0;
    let mut start = 0;
    while start < order.len() {
        let tied = order[start..].iter().take_while(|row| scores[**row] == scores[order[start]]).count().max(1);
        // Ranks start + 1 ..= start + tied, each counted as their mean.
        let rank = start as f64 + (tied + 1) as f64 / 2.0;
        rank_sum += rank * order[start..start + tied].iter().filter(|row| labels[**row] > 0.5).count() as f64;
        start += tied;
    }
    let ones = ones as f64;
    Some((rank_sum - ones * (ones + 1.0) / 2.0) / (ones * zeros as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The one that epochs are compared by.
    fn measure(loss: Loss, logits: &[f32], targets: &Targets) -> Option<f64> {
        all(loss, logits, targets).remove(name(loss))
    }

    #[test]
    fn known_values() {
        let classes = Targets::Classes(vec![1, 0, 2, 1]);
        let logits = [0.0, 1.0, 0.5, 2.0, 1.0, 0.0, 0.0, 9.0, 1.0, 3.0, 3.0, 3.0];
        assert_eq!(measure(Loss::CrossEntropy, &logits, &classes), Some(0.5));
        let values = Targets::Values(vec![1.0, 5.0]);
        assert_eq!(measure(Loss::MeanSquaredError, &[4.0, 1.0], &values), Some(12.5f64.sqrt()));
        assert_eq!(measure(Loss::BinaryCrossEntropy, &[4.0, 1.0], &Targets::Values(vec![1.0, 1.0])), None);
        assert_eq!(measure(Loss::CrossEntropy, &[], &Targets::Classes(vec![])), None);
    }

    #[test]
    fn metrics_beside_the_main_one() {
        let check = |loss, logits: &[f32], targets: &Targets, expect: &[(&str, f64)]| {
            let got = all(loss, logits, targets);
            assert_eq!(got.len(), expect.len(), "{got:?}");
            for (name, expect) in expect {
                assert!((got[name] - expect).abs() < 1e-6, "{name} in {got:?}, expected {expect}");
            }
        };
        // Said yes three times, twice rightly; one yes was missed.
        let labels = Targets::Values(vec![1.0, 1.0, 0.0, 1.0, 0.0]);
        let logits = [2.0, 1.0, 0.5, -1.0, -3.0];
        let log_loss = (0.126928 + 0.313262 + 0.974077 + 1.313262 + 0.048587) / 5.0;
        let shares =
            [("auc", 5.0 / 6.0), ("accuracy", 0.6), ("precision", 2.0 / 3.0), ("recall", 2.0 / 3.0), ("f1", 2.0 / 3.0)];
        check(Loss::Hinge, &logits, &labels, &shares);
        check(Loss::BinaryCrossEntropy, &logits, &labels, &[&shares[..], &[("log_loss", log_loss)]].concat());
        let none = Targets::Values(vec![0.0, 0.0]);
        check(Loss::Hinge, &[-1.0, -2.0], &none, &[("accuracy", 1.0)]);
        let values = Targets::Values(vec![1.0, 5.0]);
        check(Loss::MeanAbsoluteError, &[4.0, 1.0], &values, &[("mae", 3.5), ("rmse", 12.5f64.sqrt())]);
        let classes = Targets::Classes(vec![0, 5]);
        let logits = [6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0];
        let log_loss = (0.456193 + 5.456193) / 2.0;
        check(
            Loss::CrossEntropy,
            &logits,
            &classes,
            &[("accuracy", 0.5), ("top_5_accuracy", 0.5), ("log_loss", log_loss)],
        );
        assert_eq!((name(Loss::MeanAbsoluteError), larger_is_better(Loss::MeanAbsoluteError)), ("mae", false));
    }

    proptest! {
        #[test]
        fn auc_counts_pairs(rows in prop::collection::vec((0u8..6, any::<bool>()), 2..40)) {
            let scores: Vec<f32> = rows.iter().map(|(score, _)| f32::from(*score)).collect();
            let labels: Vec<f32> = rows.iter().map(|(_, label)| f32::from(u8::from(*label))).collect();
            let (mut pairs, mut won) = (0.0, 0.0);
            for (one, _) in rows.iter().filter(|(_, label)| *label) {
                for (zero, _) in rows.iter().filter(|(_, label)| !*label) {
                    pairs += 1.0;
                    won += if one > zero { 1.0 } else if one == zero { 0.5 } else { 0.0 };
                }
            }
            match auc(&scores, &labels) {
                None => prop_assert_eq!(pairs, 0.0),
                Some(auc) => prop_assert!((auc - won / pairs).abs() < 1e-12),
            }
        }
    }
}
