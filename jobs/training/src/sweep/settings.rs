//! What one trial of a sweep has for itself, kept as what differs from the job that all trials have in common.
//!
//! Invariant: what is kept gives the trial's job back as it was, also from its text.

use jobs::TrainBody;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// What it tries, as it would be written in a job file.
    pub shown: BTreeMap<String, String>,
    /// Fields of the job that are others than those of `base`.
    fields: BTreeMap<String, Value>,
}

impl Settings {
    pub fn of(shown: BTreeMap<String, String>, base: &TrainBody, own: &TrainBody) -> Result<Self, serde_json::Error> {
        let (base, own) = (fields(base)?, fields(own)?);
        let fields = own.into_iter().filter(|(name, value)| base.get(name) != Some(value)).collect();
        Ok(Self { shown, fields })
    }

    pub fn applied(&self, base: &TrainBody) -> Result<TrainBody, serde_json::Error> {
        let mut all = fields(base)?;
        all.extend(self.fields.clone());
        serde_json::from_value(Value::Object(all.into_iter().collect()))
    }
}

fn fields(body: &TrainBody) -> Result<BTreeMap<String, Value>, serde_json::Error> {
    match serde_json::to_value(body)? {
        Value::Object(fields) => Ok(fields.into_iter().collect()),
        _ => Ok(BTreeMap::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::body;
    use jobs::train::{Activation, Layer, Loss, Optimizer, chain};

    #[test]
    fn only_what_differs_is_kept_and_it_comes_back() {
        let base = TrainBody { sql: "a long text ".repeat(100), ..body("y", Loss::MeanSquaredError) };
        let own = TrainBody {
            optimizer: Optimizer::Adagrad { learning_rate: 0.123456, epsilon: 1e-10 },
            layers: chain([Layer::dense(3, Activation::Relu)]),
            steps: Some(7),
            ..base.clone()
        };
        let settings = Settings::of(BTreeMap::new(), &base, &own).unwrap();
        let text = serde_json::to_string(&settings).unwrap();
        assert!(text.len() < 400, "{text}");
        let settings: Settings = serde_json::from_str(&text).unwrap();
        assert_eq!(settings.applied(&base).unwrap(), own);
        // A setting of the base that a trial has not is taken back.
        let less = Settings::of(BTreeMap::new(), &own, &base).unwrap();
        assert_eq!(less.applied(&own).unwrap(), base);
        assert_eq!(Settings::of(BTreeMap::new(), &base, &base).unwrap(), Settings::default());
    }
}
