//! What happens at the end of an epoch: whether its weights are the best so far, and whether training stops.
//!
//! Invariant: the decisions are a function of the metrics so far, which are part of the checkpoint, so that a resumed run
//! stops at the same epoch and keeps the same weights. The chief decides; it alone knows the metrics. Pure: knows no weights.

use crate::metric;
use jobs::TrainBody;
use jobs::train::{EarlyStop, Loss};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq)]
pub struct Callbacks {
    early_stop: Option<EarlyStop>,
    keep_best: bool,
    loss: Loss,
    pub state: State,
}

/// What the epochs so far have shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Best metric so far and the epoch that had it, counted from 1.
    pub best: Option<(f64, u64)>,
    /// Best metric that patience goes by: one that is better by less than `min_delta` does not count.
    pub mark: Option<f64>,
    /// Epochs since then.
    pub without: u32,
    /// Epoch after which training was stopped early, counted from 1.
    pub stopped_after: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The weights are to be kept in place of those that were kept before.
    pub keep: bool,
    /// No further step is taken.
    pub stop: bool,
}

impl Callbacks {
    pub fn new(body: &TrainBody, state: State) -> Self {
        Self { early_stop: body.early_stop, keep_best: body.keep_best, loss: body.loss, state }
    }

    pub fn has_stopped(&self) -> bool {
        self.state.stopped_after.is_some()
    }

    /// After epoch `epoch`, counted from 1. Without a metric (held-out rows of one class have no AUC) an epoch is neither
    /// better nor worse; the first epoch's weights are kept then, for want of any that are known to be better.
    pub fn epoch_ended(&mut self, epoch: u64, metric: Option<f64>) -> Verdict {
        let state = &mut self.state;
        let Some(metric) = metric.filter(|metric| metric.is_finite()) else {
            return Verdict { keep: self.keep_best && epoch == 1, stop: false };
        };
        let better = |than: f64, least: f64| {
            if metric::larger_is_better(self.loss) { metric > than + least } else { metric < than - least }
        };
        let is_best = state.best.is_none_or(|(best, _)| better(best, 0.0));
        if is_best {
            state.best = Some((metric, epoch));
        }
        let mut stop = false;
        if let Some(EarlyStop { patience, least }) = self.early_stop {
            if state.mark.is_none_or(|mark| better(mark, least)) {
                state.mark = Some(metric);
                state.without = 0;
            } else {
                state.without += 1;
            }
            stop = state.without >= patience;
        }
        if stop {
            state.stopped_after = Some(epoch);
        }
        Verdict { keep: self.keep_best && is_best, stop }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::body;

    /// Runs epochs until it stops; gives the epochs whose weights were kept and the one that was the last.
    fn run(loss: Loss, patience: u32, least: f64, metrics: &[Option<f64>]) -> (Vec<u64>, Option<u64>) {
        let mut body = body("y", loss);
        body.early_stop = Some(EarlyStop { patience, least });
        body.keep_best = true;
        let mut state = State::default();
        let mut kept = Vec::new();
        for (epoch, metric) in (1..).zip(metrics) {
            // As a run that is killed and resumed after each epoch.
            let text = serde_json::to_string(&state).unwrap();
            let mut callbacks = Callbacks::new(&body, serde_json::from_str(&text).unwrap());
            let verdict = callbacks.epoch_ended(epoch, *metric);
            kept.extend(verdict.keep.then_some(epoch));
            assert_eq!(verdict.stop, callbacks.has_stopped());
            state = callbacks.state;
            if verdict.stop {
                return (kept, Some(epoch));
            }
        }
        (kept, None)
    }

    #[test]
    fn stops_when_nothing_becomes_better() {
        let some = |metrics: &[f64]| metrics.iter().map(|metric| Some(*metric)).collect::<Vec<_>>();
        let accuracies = some(&[0.5, 0.7, 0.6, 0.7, 0.9]);
        assert_eq!(run(Loss::CrossEntropy, 2, 0.0, &accuracies), (vec![1, 2], Some(4)));
        assert_eq!(run(Loss::CrossEntropy, 3, 0.0, &accuracies), (vec![1, 2, 5], None));
        // Small steps forward are kept, and do not count for patience.
        let creeping = some(&[0.5, 0.51, 0.52, 0.53]);
        assert_eq!(run(Loss::CrossEntropy, 2, 0.1, &creeping), (vec![1, 2, 3], Some(3)));
        let errors = some(&[3.0, 2.0, 2.5, 1.0]);
        assert_eq!(run(Loss::MeanSquaredError, 2, 0.0, &errors), (vec![1, 2, 4], None));
        assert_eq!(run(Loss::MeanSquaredError, 1, 0.0, &errors), (vec![1, 2], Some(3)));
        assert_eq!(run(Loss::BinaryCrossEntropy, 1, 0.0, &[None, None, Some(0.5)]), (vec![1, 3], None));
    }
}
