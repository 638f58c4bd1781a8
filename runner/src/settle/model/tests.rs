//! Options and files, good and bad.

use super::super::document::{Value, from_toml};
use super::super::reader::entries_of_options;
use super::super::shape;
use super::*;
use connectors::OptionEntry;
use jobs::train::{Activation, Combine, EarlyStop, Elastic, Layer, Padding, Preprocess, Strategy, chain};

fn sql(options: &[(&str, &str)]) -> (TrainBody, u32, Vec<Diagnostic>) {
    let options: Vec<OptionEntry> = options
        .iter()
        .enumerate()
        .map(|(at, (key, value))| OptionEntry {
            key: key.to_string(),
            value: value.to_string(),
            key_span: Some((at * 2, at * 2 + 1)),
            value_span: Some((at * 2 + 1, at * 2 + 2)),
        })
        .collect();
    let entries = entries_of_options(&options);
    let mut diagnostics = Vec::new();
    let mut reader = Reader::new(&shape::SQL_MODEL, &entries, Some((0, 0)), &mut diagnostics);
    let (body, workers) = of_sql(&mut reader, source());
    (body, workers, diagnostics)
}

fn source() -> Source {
    Source {
        model: "m".to_string(),
        sql: String::new(),
        base_dir: String::new(),
        train_query: "SELECT 1".to_string(),
        test_query: None,
        columns: Some(["a", "city", "device", "y"].map(str::to_string).to_vec()),
    }
}

#[test]
fn options_become_a_body() {
    let (body, workers, diagnostics) = sql(&[
        ("label", "fraud"),
        ("task", "binary"),
        ("hidden", "8, 4"),
        ("activation", "tanh"),
        ("optimizer", "sgd"),
        ("ignore", "card, window_end"),
        ("workers", "2"),
    ]);
    assert_eq!(diagnostics, []);
    assert_eq!(workers, 2);
    assert_eq!(body.label, "fraud");
    assert_eq!(body.ignore, ["card", "window_end"]);
    let dense = |units| Layer::dense(units, Activation::Tanh);
    assert_eq!(body.layers, chain([dense(8), dense(4)]));
    assert_eq!(body.loss, Loss::BinaryCrossEntropy);
    assert_eq!(body.optimizer, Optimizer::Sgd { learning_rate: 0.01, momentum: 0.9, nesterov: false });
    assert_eq!((body.epochs, body.batch, body.min_rows, body.test_fraction), (20, 64, 1, 0.2));
    assert!(body.normalize);
}

#[test]
fn servers_are_tasks_besides_the_workers() {
    let given = [("label", "y"), ("task", "binary"), ("workers", "3")];
    let with = |more: &[(&str, &str)]| sql(&[&given[..], more].concat());
    let (body, tasks, diagnostics) = with(&[("strategy", "parameter_server"), ("servers", "2"), ("staleness", "4")]);
    assert_eq!(diagnostics, []);
    assert_eq!((body.strategy, tasks), (Strategy::ParameterServer { servers: 2, staleness: 4 }, 5));
    let (body, tasks, _) = with(&[("strategy", "parameter_server")]);
    assert_eq!((body.strategy, tasks), (Strategy::ParameterServer { servers: 1, staleness: 0 }, 4));
    let (body, tasks, _) = with(&[]);
    assert_eq!((body.strategy, tasks), (Strategy::AllReduce, 3));
    let shown = |more: &[(&str, &str)]| -> Vec<String> { with(more).2.iter().map(ToString::to_string).collect() };
    assert_eq!(
        shown(&[("staleness", "1")]),
        ["strategy 'all_reduce' has no staleness (add strategy = 'parameter_server')"]
    );
    assert_eq!(
        shown(&[("strategy", "parameter_servers"), ("servers", "1")]),
        ["strategy 'parameter_servers' is not known (did you mean 'parameter_server'?)"]
    );
}

#[test]
fn all_mistakes_at_once() {
    let (_, _, diagnostics) = sql(&[("epoch", "3"), ("optimizer", "adamm"), ("hidden", "8,x"), ("momentum", "0.5")]);
    let shown: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "CREATE MODEL has no 'epoch' (did you mean 'epochs'?)",
            "'label' is missing in CREATE MODEL (label: column that is to be predicted)",
            "hidden: 'x' is not a number of outputs (for example hidden = '32,16')",
            "neither 'task' nor 'loss' says what kind of label it is (add task = 'binary|classes|regression')",
            "optimizer 'adamm' is not known (did you mean 'adam'?)",
            "optimizer 'adamw' has no momentum",
        ]
    );
}

/// Each mistake of a file as (the words that it points at, what is wrong).
fn file(text: &str) -> (TrainBody, Vec<(String, String)>) {
    let node = from_toml(text).unwrap();
    let Value::Table(entries) = &node.value else { panic!("{node:?}") };
    let mut diagnostics = Vec::new();
    let mut reader = Reader::new(&shape::TRAIN, entries, None, &mut diagnostics);
    let (body, _) = of_file(&mut reader, source());
    let shown = |diagnostic: &Diagnostic| {
        (diagnostic.span.map_or("", |(start, end)| &text[start..end]).to_string(), diagnostic.to_string())
    };
    let about_data =
        |diagnostic: &&Diagnostic| !diagnostic.message.contains("'data'") && !diagnostic.message.contains("'kind'");
    (body, diagnostics.iter().filter(about_data).map(shown).collect())
}

#[test]
fn categorical_columns_are_hashed_and_put_beside_the_numbers() {
    let options = [
        ("label", "y"),
        ("task", "binary"),
        ("categorical", "city, device"),
        ("hash_buckets", "100"),
        ("embedding", "4"),
        ("hidden", "8"),
        ("optimizer", "adam"),
        ("schedule", "cosine"),
        ("warm_up", "50"),
        ("clip_norm", "1"),
        ("patience", "3"),
        ("steps", "700"),
    ];
    let (body, _, diagnostics) = sql(&options);
    assert_eq!(diagnostics, []);
    let input = |name: &str, columns: &[&str], step| Input {
        name: name.to_string(),
        columns: columns.iter().map(|column| column.to_string()).collect(),
        step,
        dims: Vec::new(),
    };
    let hash = Preprocess::Hash { buckets: 100 };
    let categories = input("categories", &["city", "device"], hash);
    assert_eq!(body.inputs, [input("numbers", &[], Preprocess::Normalize), categories.clone()]);
    let graph: Vec<(&str, String)> =
        body.layers.iter().map(|node| (node.name.as_str(), node.inputs.join(" "))).collect();
    let expect =
        [("embedding", "categories"), ("vectors", "embedding"), ("features", "numbers vectors"), ("dense_00", "")];
    assert_eq!(graph, expect.map(|(name, inputs)| (name, inputs.to_string())));
    assert_eq!(body.layers[0].layer, Layer::Embedding { vocabulary: 100, units: 4, combine: Combine::None });
    assert_eq!(body.schedule, Schedule::Cosine { warm_up: 50, floor: 0.0 });
    assert_eq!((body.clip, body.steps), (Clip::Norm { limit: 1.0 }, Some(700)));
    assert_eq!((body.early_stop, body.keep_best), (Some(EarlyStop { patience: 3, least: 0.0 }), true));
    let adam = Optimizer::Adam { learning_rate: 0.001, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, lazy: false };
    assert_eq!(body.optimizer, adam);

    // With no numbers there is nothing to put beside.
    let (body, _, _) = sql(&[("label", "y"), ("task", "binary"), ("ignore", "a"), ("categorical", "city,DEVICE")]);
    assert_eq!(body.inputs.len(), 1);
    assert_eq!(body.layers.len(), 4);
    assert!(body.layers.iter().all(|node| node.layer != Layer::Concat), "{:?}", body.layers);
}

#[test]
fn settings_of_others_are_refused() {
    let (_, _, diagnostics) = sql(&[
        ("label", "y"),
        ("loss", "mean_squared_error"),
        ("delta", "2"),
        ("embedding", "4"),
        ("optimizer", "ftrl"),
        ("beta1", "0.5"),
        ("warm_up", "5"),
        ("clip_norm", "1"),
        ("clip_value", "1"),
        ("epochs", "2"),
        ("steps", "2"),
        ("min_delta", "1"),
    ]);
    let shown: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "embedding is a setting of categorical (add categorical = 'COLUMN, …')",
            "delta is a setting of loss 'huber'",
            "optimizer 'ftrl' has no beta1",
            "schedule 'constant' has no warm_up",
            "both 'clip_norm' and 'clip_value' limit the gradients (leave one of them out)",
            "both 'steps' and 'epochs' say how long to train (leave one of them out)",
            "min_delta is a setting of patience (add patience = 5)",
        ]
    );
}

#[test]
fn every_layer_can_be_written() {
    let (body, mistakes) = file(
        r#"
        [model]
        task = "classes"
        output = "last"
        inputs = [
            { normalize = true, columns = "a" },
            { hash = 50, name = "c", columns = ["city", "device"] },
            { numbers = true, name = "pixels", columns = "pixels", dims = [8, 8, 1] },
        ]
        layers = [
            { conv2d = 4, input = "pixels", padding = "same" }, { max_pool = 2 }, { conv2d = 4, kernel = [2, 3], stride = 2 },
            { average_pool = [1, 2], stride = 1 }, "batch_norm", { activation = "gelu" }, "global_max_pool", "global_average_pool",
            { embedding = 3, input = "c" }, { embedding = 3, input = "c", combine = "mean", name = "wide" }, "position",
            { conv1d = 2, activation = "linear" }, { gru = 5, sequences = true }, { lstm = 5 }, { attention = 2, causal = true },
            { transformer = 2, hidden = 8, dropout = 0.1 }, { layer_norm = true, epsilon = 0.1 }, "rms_norm", { flatten = true, name = "flat" },
            { reshape = [3, 2] }, { permute = [2, 1] }, { dropout = 0.5 }, { add = ["wide", "flat"] }, { concat = ["wide", "flat"] },
            { dense = 3, bias = false, activation = "softplus", name = "last" },
        ]
        "#,
    );
    assert_eq!(mistakes, []);
    assert_eq!(body.layers.len(), 25);
    let kinds: std::collections::BTreeSet<&str> = body.layers.iter().map(|node| node.layer.kind()).collect();
    assert_eq!(kinds.len(), 23, "{kinds:?}");
    let layer = |index: usize| body.layers[index].layer.clone();
    let (padding, activation) = (Padding::Same, Activation::Relu);
    assert_eq!(layer(0), Layer::Conv2d { filters: 4, kernel: [3, 3], stride: [1, 1], padding, activation });
    assert_eq!(layer(1), Layer::MaxPool { size: [2, 2], stride: [2, 2], padding: Padding::Valid });
    assert_eq!(layer(3), Layer::AveragePool { size: [1, 2], stride: [1, 1], padding: Padding::Valid });
    assert_eq!(layer(4), Layer::BatchNorm { momentum: 0.99, epsilon: 0.001 });
    assert_eq!(layer(9), Layer::Embedding { vocabulary: 50, units: 3, combine: Combine::Mean });
    assert_eq!(
        layer(15),
        Layer::Transformer { heads: 2, hidden: 8, causal: false, activation: Activation::Gelu, dropout: 0.1 }
    );
    assert_eq!(layer(24), Layer::Dense { units: 3, activation: Activation::Softplus, bias: false });
    assert_eq!(
        (body.layers[22].inputs.join(" "), body.layers[2].name.as_str()),
        ("wide flat".to_string(), "conv2d_02")
    );
    assert_eq!((body.inputs[0].name.as_str(), body.inputs[2].dims.as_slice()), ("normalize", [8, 8, 1].as_slice()));
    assert_eq!(body.output.as_deref(), Some("last"));
}

#[test]
fn a_version_brings_inputs_and_layers() {
    let (body, _, diagnostics) = sql(&[("label", "y"), ("task", "binary"), ("init", "m@3"), ("epochs", "2")]);
    assert_eq!(diagnostics, []);
    assert_eq!((body.init.as_deref(), body.inputs.len(), body.layers.len()), (Some("m@3"), 0, 0));
    let (_, _, diagnostics) = sql(&[("label", "y"), ("task", "binary"), ("init", "m"), ("hidden", "8")]);
    let shown: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "init: failed to begin with 'm': name a version by its number, as in 'fraud@3' (smack model ls lists versions)",
            "'hidden' is a setting of new layers, and 'init' brings its own (leave one of them out)",
        ]
    );
    let (body, mistakes) = file("[model]\ntask = \"classes\"\ninit = \"m@2\"\nlayers = [{ dense = 3 }]\n");
    assert_eq!(body.init.as_deref(), Some("m@2"));
    assert!(mistakes[0].1.contains("'layers' is a setting of new layers"), "{mistakes:?}");
}

#[test]
fn mistakes_of_layers_are_told_at_their_places() {
    let (_, mistakes) = file(
        r#"
        [model]
        loss = "huber"
        normalize = false
        inputs = ["hash", "normalise", { one_hot = 1 }]
        layers = [{ conv2d = 4, kernle = 3 }, { dense = 4, dropout = 0.1 }, { bias = true }, "dense", { max_pool = [1, 2, 3] },
            { embedding = 4 }, { flatten = 3 }, { add = ["a"] }, { dence = 3 }, { reshape = [0] }, { transformer = 2 }]
        "#,
    );
    let expect = [
        ("\"hash\"", "inputs: 'hash' needs a setting (write { hash = … })"),
        ("\"normalise\"", "inputs: 'normalise' is not known (did you mean 'normalize'?)"),
        ("1", "one_hot is 1, not a whole number from 2 to 65536"),
        (
            "false",
            "'inputs' says what becomes of the numbers, 'normalize' as well (leave normalize out; write the input as \"normalize\" or as \"numbers\")",
        ),
        ("kernle", "a conv2d layer has no 'kernle' (did you mean 'kernel'?)"),
        (
            "{ dense = 4, dropout = 0.1 }",
            "'dense' and 'dropout' are two kinds of layers (write them one after the other)",
        ),
        ("\"dense\"", "layers: 'dense' needs a setting (write { dense = … })"),
        ("[1, 2, 3]", "max_pool is a list, not a whole number from 1 on, or two of them in a list"),
        (
            "{ embedding = 4 }",
            "nothing says how many ids this embedding looks up (name an input of ids in 'input', or add 'vocabulary')",
        ),
        ("3", "flatten is 3, not true: it has no setting of its own"),
        ("{ add = [\"a\"] }", "add joins two layers or more (for example { add = [\"a\", \"b\"] })"),
        ("dence", "'dence' is no kind of layers (did you mean 'dense'?)"),
        ("0", "reshape is 0, not a whole number from 1 on"),
        (
            "{ transformer = 2 }",
            "'hidden' is missing in a transformer layer (hidden: outputs of the first of its dense layers)",
        ),
    ];
    for (place, what) in expect {
        assert!(mistakes.contains(&(place.to_string(), what.to_string())), "{place}: {what}\n{mistakes:#?}");
    }
    assert_eq!(mistakes.len(), expect.len() + 1, "{mistakes:#?}");
}

#[test]
fn an_evaluator_is_one_more_task_and_goes_with_nothing_that_waits_for_an_epoch() {
    let judged = [("label", "y"), ("task", "binary"), ("workers", "2"), ("evaluator", "true")];
    let (body, tasks, diagnostics) = sql(&judged);
    assert_eq!((body.evaluator, tasks, diagnostics.len()), (true, 3, 0));
    for (name, value) in [("patience", "3"), ("keep_best", "true")] {
        let (_, _, diagnostics) = sql(&[judged.as_slice(), &[(name, value)]].concat());
        let [wrong] = diagnostics.as_slice() else { panic!("{diagnostics:?}") };
        assert!(wrong.message.starts_with(&format!("{name} goes by what is found after each epoch")), "{wrong}");
    }
    let (_, _, diagnostics) = sql(&[judged.as_slice(), &[("keep_best", "false")]].concat());
    assert_eq!(diagnostics, []);
}

#[test]
fn a_training_may_go_on_with_fewer_workers() {
    let given = [("label", "y"), ("task", "binary"), ("workers", "4")];
    let (body, tasks, diagnostics) = sql(&[given.as_slice(), &[("min_workers", "2")]].concat());
    assert_eq!((body.elastic, tasks), (Some(Elastic { min_workers: 2, grow_after_ms: 60_000 }), 4));
    assert_eq!(diagnostics, []);
    assert_eq!(sql(&given).0.elastic, None);
    for (settings, said) in [
        (&[("min_workers", "4")][..], "min_workers is 4, and there are 4 workers in all"),
        (&[("min_workers", "0")], "min_workers is '0', not a whole number from 1 to 4096"),
        (&[("grow_after", "5s")], "grow_after is a setting of min_workers"),
        (&[("min_workers", "1"), ("grow_after", "soon")], "grow_after"),
    ] {
        let (_, _, diagnostics) = sql(&[given.as_slice(), settings].concat());
        let [wrong] = diagnostics.as_slice() else { panic!("{said}: {diagnostics:?}") };
        assert!(wrong.message.contains(said), "{wrong}");
    }
}
