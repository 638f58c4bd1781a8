//! From columns to what a graph reads: which columns, and what is done with their values first.

use serde::{Deserialize, Serialize};

/// One input of the graph, made of one or several columns side by side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// What nodes call it.
    pub name: String,
    /// Empty for all features that no other input names.
    #[serde(default)]
    pub columns: Vec<String>,
    pub step: Preprocess,
    /// Shape of one row; empty for one dimension. Its product is the number of values: one of each column, or as many as a
    /// column of lists has in each row (times `size`, one-hot).
    #[serde(default)]
    pub dims: Vec<usize>,
}

/// State (means, words, boundaries) is learned from the training rows, once, and saved with the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Preprocess {
    /// Numbers as they are; an absent one counts as 0.
    Numbers,
    /// (value - mean) / deviation of each column; an absent one counts as the mean.
    Normalize,
    /// Whole numbers from 0, of which there are `size`; others, and absent ones, are refused.
    Ids { size: usize },
    /// Hash of the column's number and the value, so that equal values of two columns differ, modulo `buckets`. An absent one
    /// has a hash as well.
    Hash { buckets: usize },
    /// Place in the list of the `size - 1` most frequent values of all columns of the input, from 1; 0 for all others.
    Vocabulary { size: usize },
    /// Place between `count - 1` quantiles of each column; an absent one counts as the median.
    Buckets { count: usize },
    /// As vocabulary, then `size` numbers of which one is 1.
    OneHot { size: usize },
}

impl Preprocess {
    /// As users write it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Numbers => "numbers",
            Self::Normalize => "normalize",
            Self::Ids { .. } => "ids",
            Self::Hash { .. } => "hash",
            Self::Vocabulary { .. } => "vocabulary",
            Self::Buckets { .. } => "buckets",
            Self::OneHot { .. } => "one_hot",
        }
    }
}
