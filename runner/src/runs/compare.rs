//! Runs side by side: the settings in which they differ, how they ended, and how their losses fell.

use crate::view::{ComparedSetting, ComparisonView, PointView, RunDetail};
use std::collections::BTreeSet;

/// Columns of a curve in text.
const CURVE_WIDTH: usize = 40;

pub fn compare(runs: Vec<RunDetail>) -> ComparisonView {
    let names: BTreeSet<&String> = runs.iter().flat_map(|detail| detail.run.settings.keys()).collect();
    let of = |name: &String| -> Vec<Option<String>> {
        runs.iter().map(|detail| detail.run.settings.get(name).cloned()).collect()
    };
    let settings = names
        .into_iter()
        .map(|name| ComparedSetting { name: name.clone(), values: of(name) })
        .filter(|setting| setting.values.windows(2).any(|pair| pair[0] != pair[1]))
        .collect();
    // One scale for all, so that curves can be held against each other.
    let losses = || runs.iter().flat_map(|detail| &detail.points).filter_map(|point| point.loss);
    let (low, high) =
        losses().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), loss| (low.min(loss), high.max(loss)));
    let curves = runs.iter().map(|detail| curve(&detail.points, low, high)).collect();
    ComparisonView { settings, curves, runs: runs.into_iter().map(|detail| detail.run).collect() }
}

/// The losses as blocks of eight heights, between the lowest and the highest one.
pub fn curve(points: &[PointView], low: f64, high: f64) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let losses: Vec<f64> = points.iter().filter_map(|point| point.loss).collect();
    let width = losses.len().min(CURVE_WIDTH);
    let column = |at: usize| {
        let part = &losses[at * losses.len() / width..(at + 1) * losses.len() / width];
        let mean = part.iter().sum::<f64>() / part.len() as f64;
        let share = if high > low { (mean - low) / (high - low) } else { 0.0 };
        BLOCKS[((share * 8.0) as usize).min(7)]
    };
    (0..width).map(column).collect()
}
