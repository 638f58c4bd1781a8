//! Area under the ROC curve.

/// The chance that a random positive scores higher than a random negative, where a tie counts half; 0.5 when one kind
/// is missing. Scores that are not numbers count as the lowest.
pub fn auc(scores: &[f64], labels: &[bool]) -> f64 {
    assert_eq!(scores.len(), labels.len(), "every score needs its label");
    let score = |at: usize| if scores[at].is_nan() { f64::NEG_INFINITY } else { scores[at] };
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_unstable_by(|a, b| score(*a).total_cmp(&score(*b)));
    let (mut rank_sum, mut positives, mut begin) = (0.0, 0usize, 0);
    while begin < order.len() {
        let tie = order[begin..].iter().take_while(|at| score(**at) == score(order[begin])).count();
        let rank = begin as f64 + (tie as f64 + 1.0) / 2.0;
        let hits = order[begin..begin + tie].iter().filter(|at| labels[**at]).count();
        rank_sum += rank * hits as f64;
        positives += hits;
        begin += tie;
    }
    let negatives = labels.len() - positives;
    if positives == 0 || negatives == 0 {
        return 0.5;
    }
    let (positives, negatives) = (positives as f64, negatives as f64);
    (rank_sum - positives * (positives + 1.0) / 2.0) / (positives * negatives)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_values() {
        assert_eq!(auc(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true]), 0.75);
        assert_eq!(auc(&[1.0, 1.0], &[true, false]), 0.5);
        assert_eq!(auc(&[f64::NAN, 1.0], &[false, true]), 1.0);
        assert_eq!(auc(&[], &[]), 0.5);
    }

    proptest! {
        #[test]
        fn equals_counting_pairs(rows in prop::collection::vec((0..6u8, any::<bool>()), 2..60)) {
            let scores: Vec<f64> = rows.iter().map(|row| f64::from(row.0)).collect();
            let labels: Vec<bool> = rows.iter().map(|row| row.1).collect();
            let (mut won, mut pairs) = (0.0, 0.0);
            for (a, _) in rows.iter().filter(|row| row.1) {
                for (b, _) in rows.iter().filter(|row| !row.1) {
                    pairs += 1.0;
                    won += if a > b { 1.0 } else if a == b { 0.5 } else { 0.0 };
                }
            }
            let expected = if pairs == 0.0 { 0.5 } else { won / pairs };
            prop_assert!((auc(&scores, &labels) - expected).abs() < 1e-9);
        }
    }
}
