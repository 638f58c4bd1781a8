//! What is wrong with a training job before any data is read: all of it at once.

use crate::servers;
use jobs::TrainBody;
use jobs::train::{Layer, Optimizer};

/// One sentence per mistake; empty for a job that can start.
pub fn check(body: &TrainBody) -> Vec<String> {
    let mut wrong = Vec::new();
    if !valid_name(&body.model) {
        wrong.push(format!(
            "model name '{}' must be letters, digits, '_', '-' or '.', and begin with a letter, a digit or '_'",
            body.model
        ));
    }
    for (index, node) in body.layers.iter().enumerate() {
        match &node.layer {
            Layer::Dense { units: 0, .. } => wrong.push(format!("layer {index} (dense) has no units")),
            Layer::Dropout { rate } if !(0.0..1.0).contains(rate) => {
                wrong.push(format!("layer {index} (dropout) has rate {rate}; it must be at least 0 and below 1"));
            }
            _ => {}
        }
    }
    let mut within = |name: &str, value: f64, fits: bool, expected: &str| {
        if !fits {
            wrong.push(format!("{name} is {value}; it must be {expected}"));
        }
    };
    let positive = |value: f64| value.is_finite() && value > 0.0;
    match &body.optimizer {
        Optimizer::Sgd { learning_rate, momentum, .. } => {
            within("learning_rate", *learning_rate, positive(*learning_rate), "above 0");
            within("momentum", *momentum, (0.0..1.0).contains(momentum), "at least 0 and below 1");
        }
        Optimizer::AdamW { learning_rate, beta1, beta2, epsilon, weight_decay } => {
            within("learning_rate", *learning_rate, positive(*learning_rate), "above 0");
            within("beta1", *beta1, (0.0..1.0).contains(beta1), "at least 0 and below 1");
            within("beta2", *beta2, (0.0..1.0).contains(beta2), "at least 0 and below 1");
            within("epsilon", *epsilon, positive(*epsilon), "above 0");
            let fits = weight_decay.is_finite() && *weight_decay >= 0.0;
            within("weight_decay", *weight_decay, fits, "at least 0");
        }
        _ => {}
    }
    within("batch", body.batch as f64, body.batch > 0, "at least 1");
    within("epochs", f64::from(body.epochs), body.epochs > 0, "at least 1");
    within("checkpoint_steps", body.checkpoint_steps as f64, body.checkpoint_steps > 0, "at least 1");
    if body.test_query.is_none() {
        let fits = (0.0..1.0).contains(&body.test_fraction);
        within("test_fraction", body.test_fraction, fits, "at least 0 and below 1");
    }
    wrong.extend(servers::refusals(body));
    wrong
}

/// Names become folder names, so nothing that leaves the registry's folder or hides in it.
pub fn valid_name(name: &str) -> bool {
    let mut characters = name.chars();
    characters.next().is_some_and(|first| first.is_ascii_alphanumeric() || first == '_')
        && characters.all(|character| character.is_ascii_alphanumeric() || "_-.".contains(character))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::body;
    use jobs::train::{Activation, Loss, chain};

    #[test]
    fn all_mistakes_at_once() {
        let mut body = body("y", Loss::CrossEntropy);
        assert_eq!(check(&body), Vec::<String>::new());
        body.model = "../x".to_string();
        body.layers = chain([Layer::dense(0, Activation::Relu), Layer::Dropout { rate: 1.0 }]);
        body.optimizer = Optimizer::Sgd { learning_rate: f64::NAN, momentum: 1.0, nesterov: false };
        body.batch = 0;
        body.epochs = 0;
        body.test_fraction = 2.0;
        let wrong = check(&body);
        assert_eq!(wrong.len(), 8, "{wrong:#?}");
        assert!(wrong[2].contains("layer 1 (dropout) has rate 1"), "{wrong:#?}");
    }
}
