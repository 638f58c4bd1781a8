//! Models that Keras wrote, and what they answer; what is refused.

use super::*;
use crate::exchange::test_support::{assert_near, fixtures, taken_over};
use proptest::prelude::*;

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(fixtures().join(name)).unwrap()
}

#[test]
fn models_of_keras_answer_alike() {
    for name in ["mlp", "cnn", "recurrent", "words", "transformer", "branches"] {
        let network =
            import(&fixture(&format!("keras_{name}.keras")), None).unwrap_or_else(|error| panic!("{name}: {error}"));
        let case = serde_json::from_slice(&fixture(&format!("keras_{name}.json"))).unwrap();
        let found = network.loss;
        let (manifest, graph) = taken_over(network);
        assert_near(name, (&manifest, &graph), found, &case);
    }
}

/// The archive's own parts, given one by one.
#[test]
fn layers_and_weights_may_lie_apart() {
    let archive = fixture("keras_words.keras");
    let [config, weights] = [CONFIG, WEIGHTS].map(|name| zip::file(&archive, name).unwrap());
    let whole = import(&archive, None).unwrap();
    let apart = import(config, Some(weights)).unwrap();
    assert_eq!((&apart.layers, &apart.weights), (&whole.layers, &whole.weights));
    let safetensors = import(config, Some(&fixture("keras_words.safetensors"))).unwrap();
    assert_eq!(safetensors.weights, whole.weights);
    let error = import(config, None).unwrap_err().to_string();
    assert!(error.contains("give the weights with --weights"), "{error}");
}

fn refused(change: impl Fn(&mut Value)) -> String {
    let archive = fixture("keras_cnn.keras");
    let [config, weights] = [CONFIG, WEIGHTS].map(|name| zip::file(&archive, name).unwrap());
    let mut config: Value = serde_json::from_slice(config).unwrap();
    change(&mut config);
    let network = import(config.to_string().as_bytes(), Some(weights));
    match network.and_then(|network| network.model(&crate::exchange::Settings::default())) {
        Ok(_) => "nothing".to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let layer = |config: &mut Value, at: usize, key: &str, value: Value| {
        config["config"]["layers"][at]["config"][key] = value;
    };
    let of = |at: usize, key: &'static str, value: Value| refused(move |config| layer(config, at, key, value.clone()));
    assert_eq!(refused(|_| ()), "nothing");
    let error = of(1, "data_format", "channels_first".into());
    assert!(error.contains("layer 'conv2d' (Conv2D): its channels come first"), "{error}");
    let error = of(1, "dilation_rate", serde_json::json!([2, 2]));
    assert!(error.contains("layer 'conv2d' (Conv2D): its windows have gaps"), "{error}");
    let error = of(8, "units", 4.into());
    assert!(error.contains("'dense.weight'") && error.contains("[5, 3]") && error.contains("[5, 4]"), "{error}");
    let error = of(5, "activation", "mish".into());
    assert!(error.contains("layer 'activation' (Activation): its activation is 'mish'"), "{error}");
    let error = refused(|config| config["config"]["layers"][3]["class_name"] = "Bidirectional".into());
    assert!(error.contains("(Bidirectional): no layer here is what 'Bidirectional' is"), "{error}");
    let error = refused(|config| config["config"]["layers"].as_array_mut().unwrap().truncate(0));
    assert!(!error.is_empty() && error != "nothing", "{error}");
    let archive = fixture("keras_mlp.keras");
    let error = import(&archive[..archive.len() / 2], None).unwrap_err().to_string();
    assert!(error.contains("cut off"), "{error}");
}

proptest! {
    /// Whatever a file says, it is refused or taken over.
    #[test]
    fn no_file_makes_it_panic(
        which in 0usize..3,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<prop::sample::Index>(),
        whether in any::<bool>(),
    ) {
        let mut bytes = fixture(["keras_transformer.keras", "keras_recurrent.keras", "keras_mlp.keras"][which]);
        for (at, byte) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        if whether {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(network) = import(&bytes, None) {
            let _ = network.model(&crate::exchange::Settings::default());
        }
    }
}
