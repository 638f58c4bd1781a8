//! How good the answers are: accuracy for classes, area under the ROC curve for yes or no, root mean square error for values.

use crate::batches::{Batch, Buffer, Examples};
use crate::graph::operation::Values;
use crate::graph::{self, Graph};
use crate::loss::Targets;
use jobs::train::Loss;

/// Rows scored at once: enough for the matrix kernels to run at full speed, few enough that activations stay small.
const CHUNK_ROWS: usize = 4096;

pub fn name(loss: Loss) -> &'static str {
    match loss {
        Loss::CrossEntropy => "accuracy",
        Loss::BinaryCrossEntropy => "auc",
        _ => "rmse",
    }
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

/// The metric of this loss; `None` where it has no value: no rows, or an AUC over one class.
pub fn measure(loss: Loss, logits: &[f32], targets: &Targets) -> Option<f64> {
    if targets.is_empty() {
        return None;
    }
    match targets {
        Targets::Classes(classes) => {
            let rows = logits.chunks_exact(logits.len() / classes.len());
            let right = rows.zip(classes).filter(|(row, class)| largest(row) == **class as usize).count();
            Some(right as f64 / classes.len() as f64)
        }
        Targets::Values(values) if loss == Loss::BinaryCrossEntropy => auc(logits, values),
        Targets::Values(values) => {
            let squares = logits.iter().zip(values).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2));
            Some((squares.sum::<f64>() / values.len() as f64).sqrt())
        }
    }
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
