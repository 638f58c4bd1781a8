//! What a model takes for what: how often each class of the held-out rows was called which, and how scores are spread.

use crate::loss::Targets;
use crate::metric::largest;
use jobs::train::Loss;
use serde::{Deserialize, Serialize};

/// A table of more classes than this shows nobody anything.
const CLASSES_MAX: usize = 100;
/// Of the scores of yes-or-no models.
const BINS: usize = 20;

/// Of a classification, on its held-out rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// In the order of their numbers.
    pub classes: Vec<String>,
    /// Rows are what is true, columns what was said.
    pub confusion: Vec<Vec<u64>>,
    /// Of a model that says how likely yes is.
    pub scores: Option<Scores>,
    pub rows: u64,
}

/// How many rows got which score; bin `i` is from `edges[i]` up to `edges[i + 1]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    pub edges: Vec<f64>,
    /// Of rows that are not.
    pub negative: Vec<u64>,
    /// Of rows that are.
    pub positive: Vec<u64>,
}

/// `logits`: one for each class of a row, or one a row; `names` of the classes, where they have any.
pub fn of(loss: Loss, logits: &[f32], targets: &Targets, names: &[String]) -> Option<Evaluation> {
    if targets.is_empty() {
        return None;
    }
    match (targets, loss) {
        (Targets::Classes(classes), _) => of_classes(logits, classes, names),
        (Targets::Values(labels), Loss::BinaryCrossEntropy | Loss::Hinge) => {
            Some(of_yes_or_no(loss, logits, labels, names))
        }
        (Targets::Values(_), _) => None,
    }
}

fn named(n_classes: usize, names: &[String]) -> Vec<String> {
    match names.len() == n_classes {
        true => names.to_vec(),
        false => (0..n_classes).map(|class| class.to_string()).collect(),
    }
}

fn of_classes(logits: &[f32], classes: &[u32], names: &[String]) -> Option<Evaluation> {
    let n_classes = logits.len() / classes.len();
    if n_classes > CLASSES_MAX {
        return None;
    }
    let mut confusion = vec![vec![0; n_classes]; n_classes];
    for (row, class) in logits.chunks_exact(n_classes).zip(classes) {
        confusion[*class as usize][largest(row)] += 1;
    }
    Some(Evaluation { classes: named(n_classes, names), confusion, scores: None, rows: classes.len() as u64 })
}

/// A logit above 0 says yes.
fn of_yes_or_no(loss: Loss, logits: &[f32], labels: &[f32], names: &[String]) -> Evaluation {
    let mut confusion = vec![vec![0; 2]; 2];
    let mut spread = [vec![0; BINS], vec![0; BINS]];
    for (logit, label) in logits.iter().zip(labels) {
        let is = usize::from(*label > 0.5);
        confusion[is][usize::from(*logit > 0.0)] += 1;
        let score = 1.0 / (1.0 + (-f64::from(*logit)).exp());
        spread[is][((score * BINS as f64) as usize).min(BINS - 1)] += 1;
    }
    let [negative, positive] = spread;
    let edges = (0..=BINS).map(|edge| edge as f64 / BINS as f64).collect();
    // The score of a hinge is no probability.
    let scores = (loss == Loss::BinaryCrossEntropy).then_some(Scores { edges, negative, positive });
    Evaluation { classes: named(2, names), confusion, scores, rows: labels.len() as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_what_is_true_and_columns_what_was_said() {
        let logits = [3.0, 1.0, 0.0, 0.0, 1.0, 3.0, 2.0, 1.0, 0.0];
        let targets = Targets::Classes(vec![0, 1, 0]);
        let found = of(Loss::CrossEntropy, &logits, &targets, &[]).expect("an evaluation");
        assert_eq!(found.confusion, [[2, 0, 0], [0, 0, 1], [0, 0, 0]]);
        assert_eq!((found.classes, found.rows), (vec!["0".to_string(), "1".to_string(), "2".to_string()], 3));
    }

    #[test]
    fn scores_of_yes_and_no_are_spread_apart() {
        let targets = Targets::Values(vec![0.0, 1.0, 1.0]);
        let names = ["no".to_string(), "yes".to_string()];
        let found = of(Loss::BinaryCrossEntropy, &[-9.0, 9.0, -9.0], &targets, &names).expect("an evaluation");
        assert_eq!((&found.confusion[0], &found.confusion[1]), (&vec![1, 0], &vec![1, 1]));
        let scores = found.scores.expect("scores");
        assert_eq!((scores.negative[0], scores.positive[0], scores.positive[BINS - 1]), (1, 1, 1));
        assert_eq!(scores.edges.len(), BINS + 1);
        assert_eq!(of(Loss::MeanSquaredError, &[1.0], &Targets::Values(vec![1.0]), &[]), None);
        assert_eq!(of(Loss::CrossEntropy, &[], &Targets::Classes(Vec::new()), &[]), None);
    }
}
