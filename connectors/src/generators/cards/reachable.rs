//! How good a score can get at all: the AUC of one that knows the hidden state.

use super::Model;
use crate::TableDef;
use crate::generators::auc;
use jobs::Diagnostic;
use std::collections::HashMap;
use std::time::Duration;

/// Areas under the ROC curve over the first events of a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reachable {
    /// Each transaction scored by the chance its fraud label was drawn with.
    pub per_transaction: f64,
    /// Each card and tumbling window scored by the chance that it holds a fraud.
    pub per_window: f64,
    /// Each transaction scored by its amount: what a threshold reaches.
    pub amount_per_transaction: f64,
    /// Each card and window scored by its largest amount.
    pub amount_per_window: f64,
}

/// Measured over the first `events` events with windows of `window`.
pub fn best_reachable_auc(table: &TableDef, events: u64, window: Duration) -> Result<Reachable, Diagnostic> {
    let model = Model::of(table)?;
    let window_us = window.as_micros().max(1) as i64;
    let mut windows: HashMap<(u64, i64), (f64, f64, bool)> = HashMap::new();
    let (mut chances, mut amounts, mut labels) = (Vec::new(), Vec::new(), Vec::new());
    for event in (0..events).map(|id| model.event(id)) {
        let all = windows.entry((event.card, event.ts_us.div_euclid(window_us))).or_insert((1.0, 0.0, false));
        all.0 *= 1.0 - event.fraud_chance;
        all.1 = all.1.max(event.amount);
        all.2 |= event.fraud;
        chances.push(event.fraud_chance);
        amounts.push(event.amount);
        labels.push(event.fraud);
    }
    let by_window: Vec<_> = windows.into_values().collect();
    let window_labels: Vec<bool> = by_window.iter().map(|all| all.2).collect();
    let window_scores: Vec<f64> = by_window.iter().map(|all| -all.0).collect();
    let window_amounts: Vec<f64> = by_window.iter().map(|all| all.1).collect();
    Ok(Reachable {
        per_transaction: auc(&chances, &labels),
        per_window: auc(&window_scores, &window_labels),
        amount_per_transaction: auc(&amounts, &labels),
        amount_per_window: auc(&window_amounts, &window_labels),
    })
}
