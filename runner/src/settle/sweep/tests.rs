//! Sweeps as they are written, in both languages, and what cannot be one.

use super::super::tests::{mistakes, settled};
use super::*;
use jobs::JobBody;
use jobs::train::{Layer, Optimizer};

fn file(sweep: &str) -> String {
    format!(
        "kind = \"train\"\nname = \"m\"\n[data]\ntables = \"CREATE TABLE t (a DOUBLE, y BIGINT) WITH (connector = 'datagen', rows = '9');\"\n\
         train = \"SELECT a, y FROM t\"\nlabel = \"y\"\n[model]\ntask = \"binary\"\n[optimizer]\nkind = \"sgd\"\nmomentum = 0.5\n\
         [train]\nepochs = 27\n{sweep}"
    )
}

fn sql(options: &str) -> String {
    format!(
        "CREATE TABLE t (a DOUBLE, y BIGINT) WITH (connector = 'datagen', rows = '9');
         CREATE MODEL m WITH (label = 'y', task = 'binary', epochs = '9', {options}) AS SELECT a, y FROM t;"
    )
}

/// The sweep, and the job of each trial.
async fn trials(text: &str, file: &str) -> (Swept, Vec<TrainBody>) {
    let settled = settled(text, file).await;
    let JobBody::Train(base) = &settled.jobs[0].body else { panic!("{:?}", settled.jobs) };
    let swept = *settled.sweep.expect("a sweep");
    let bodies = swept.settings.iter().map(|settings| settings.applied(base).expect("a body")).collect();
    (swept, bodies)
}

#[tokio::test]
async fn a_grid_is_every_combination() {
    let text = file(
        "[sweep]\nalgorithm = \"grid\"\nparallel = 2\n[sweep.space.optimizer]\nmomentum = [0.0, 0.9]\n\
         [sweep.space.model]\nlayers = { choice = [[], [{ dense = 8 }, { dropout = 0.1 }]] }\n",
    );
    let (swept, bodies) = trials(&text, "m.toml").await;
    assert_eq!((swept.algorithm, swept.parallel, swept.course.rungs()), ("grid", 2, [27].as_slice()));
    let tried: Vec<(f64, usize)> = bodies
        .iter()
        .map(|body| match body.optimizer {
            Optimizer::Sgd { momentum, .. } => (momentum, body.layers.len()),
            _ => panic!("{:?}", body.optimizer),
        })
        .collect();
    assert_eq!(tried, [(0.0, 0), (0.0, 2), (0.9, 0), (0.9, 2)], "what is not tried is as the file says");
    let shown = &swept.settings[3].shown;
    assert_eq!(shown["optimizer.momentum"], "0.9");
    assert_eq!(shown["model.layers"], "[{ dense = 8 }, { dropout = 0.1 }]");
}

#[tokio::test]
async fn asha_draws_and_pauses_at_its_rungs() {
    let text = file(
        "[sweep]\nalgorithm = \"asha\"\ntrials = 12\nseed = 3\nmin_epochs = 3\n[sweep.space]\n\
         optimizer = { learning_rate = { log_uniform = [1e-4, 1] } }\ntrain = { batch = { uniform = [16, 128] } }\n",
    );
    let (swept, bodies) = trials(&text, "m.toml").await;
    assert_eq!((swept.settings.len(), swept.course.rungs()), (12, [3, 9, 27].as_slice()));
    let rates: Vec<f64> = bodies.iter().map(|body| body.optimizer.learning_rate()).collect();
    assert!(rates.iter().all(|rate| (1e-4..=1.0).contains(rate)) && rates[0] != rates[1], "{rates:?}");
    assert!(bodies.iter().all(|body| (16..=128).contains(&body.batch)), "{bodies:?}");
    // What is shown is what is trained with.
    assert_eq!(swept.settings[0].shown["optimizer.learning_rate"].parse(), Ok(rates[0]));
    assert_eq!(swept.settings[0].shown["train.batch"], bodies[0].batch.to_string());
    let more = text.replace("trials = 12", "trials = 13");
    assert_eq!(trials(&more, "m.toml").await.1[..12], bodies, "more trials begin with the same");
}

#[tokio::test]
async fn sql_says_the_same_in_its_own_words() {
    let text = sql("sweep.algorithm = 'asha', sweep.trials = '8', sweep.space.hidden = '32,16 | 8',
         sweep.space.learning_rate = 'log_uniform(0.001, 0.1)', sweep.space.batch = 'uniform(8, 64)'");
    let (swept, bodies) = trials(&text, "m.sql").await;
    assert_eq!((swept.settings.len(), swept.course.rungs()), (8, [1, 3, 9].as_slice()));
    for (body, settings) in bodies.iter().zip(&swept.settings) {
        assert!((0.001..=0.1).contains(&body.optimizer.learning_rate()) && (8..=64).contains(&body.batch));
        let units = |layer: &Layer| matches!(layer, Layer::Dense { units, .. } if [32, 16, 8].contains(units));
        assert!(body.layers.iter().all(|node| units(&node.layer)), "{:?}", body.layers);
        assert_eq!(settings.shown["hidden"], if body.layers.len() == 2 { "32,16" } else { "8" });
    }
    let base = settled(&text, "m.sql").await;
    let JobBody::Train(base) = &base.jobs[0].body else { panic!("{:?}", base.jobs) };
    assert_eq!((base.batch, base.layers.len()), (64, 2), "the file's own values, or the defaults, are what all share");
}

#[tokio::test]
async fn what_cannot_be_tried_is_told_at_its_place() {
    let check = async |sweep: &str, word: &str, message: &str| {
        let text = file(sweep);
        let found = mistakes(&text, "m.toml").await;
        let hit =
            found.iter().any(|(at, said, help)| at.starts_with(word) && format!("{said} {help}").contains(message));
        assert!(hit, "{sweep}\n{found:#?}\nexpected {message} at {word}");
    };
    let asha = |space: &str| format!("[sweep]\nalgorithm = \"asha\"\n{space}");
    let above = mistakes(&format!("sweep = 3\n{}", file("")), "m.toml").await;
    assert!(above.iter().any(|(at, said, _)| at == "3" && said == "sweep is a whole number, not a table"), "{above:?}");
    check("[sweep]\nspace = {}", "", "'algorithm' is missing in [sweep]").await;
    check("[sweep]\nalgorithm = \"bayes\"\nspace = {}", "\"bayes\"", "algorithm 'bayes' is not known").await;
    check("[sweep]\nalgorithm = \"asha\"", "", "'space' is missing in [sweep]").await;
    check(&asha("space = {}"), "", "the sweep tries nothing").await;
    check(&asha("[sweep.space.optimiser]\nlearning_rate = [1]"), "optimiser", "did you mean 'optimizer'?").await;
    check(&asha("[sweep.space]\noptimizer = 3"), "3", "not a table of what is tried").await;
    check(&asha("[sweep.space.optimizer]\nlearning_rat = [1]"), "learning_rat", "did you mean 'learning_rate'?").await;
    check(
        &asha("[sweep.space.train]\nseed = [1, 2]"),
        "seed",
        "cannot be tried: trials are trained and judged on the same",
    )
    .await;
    check(&asha("[sweep.space.train]\nworkers = [1, 2]"), "workers", "equally many tasks").await;
    check(&asha("[sweep.space.train]\nepochs = [1, 2]"), "epochs", "the search's matter").await;
    check(&asha("[sweep.space.model]\nloss = [\"hinge\"]"), "loss", "compared by one metric").await;
    let rate = |tried: &str| asha(&format!("[sweep.space.optimizer]\nlearning_rate = {tried}"));
    check(&rate("0.1"), "0.1", "learning_rate is a number, not what may be tried").await;
    check(&rate("[]"), "[]", "has nothing to choose from").await;
    check(&rate("{ normal = [0, 1] }"), "{", "there is no 'normal' to draw from").await;
    check(&rate("{ uniform = [0.1] }"), "[0.1]", "has no two numbers in its uniform").await;
    check(&rate("{ uniform = 0.1 }"), "0.1", "has a number, not a list, as its uniform").await;
    check(&rate("{}"), "{}", "says not one way to draw it").await;
    check(&rate("{ uniform = [0.2, 0.1] }"), "{", "has no lower end below its upper one").await;
    check(&rate("{ log_uniform = [0, 0.1] }"), "{", "has a lower end that is not above 0").await;
    check(&rate("{ uniform = [0.5, 1000] }"), "{", "trial 1: learning_rate is").await;
    check(&asha("[sweep.space.train]\nbatch = { uniform = [1.5, 8] }"), "{", "is a whole number, and so are its ends")
        .await;
    check(&asha("[sweep.space.optimizer]\nkind = { uniform = [1, 8] }"), "{", "kind is no number").await;
    check(&asha("[sweep.space.optimizer]\nkind = [\"adam\"]"), "", "trial 1: optimizer 'adam' has no momentum").await;
    check(&asha("min_epochs = 27\n[sweep.space.train]\nbatch = [8]"), "", "raise epochs, or lower min_epochs").await;
    let grid = |rest: &str| format!("[sweep]\nalgorithm = \"grid\"\n{rest}");
    check(&grid("trials = 3\n[sweep.space.train]\nbatch = [8]"), "3", "algorithm 'grid' has no trials").await;
    check(&grid("[sweep.space.optimizer]\nlearning_rate = { uniform = [0.1, 0.2] }"), "{", "no grid has").await;
    let many: Vec<String> = (1..=40).map(|batch| batch.to_string()).collect();
    let many = many.join(", ");
    let wide = format!("[sweep.space.train]\nbatch = [{many}]\naccumulate = [{many}]");
    check(&grid(&wide), "", "the grid has 1600 points").await;
    let all = file(&asha("[sweep.space.train]\nbatch = [8]"));
    let none = all.replace("label = \"y\"", "label = \"y\"\ntest_fraction = 0.0");
    assert!(mistakes(&none, "m.toml").await[0].1.starts_with("no rows are held out"));
    let judged = all.replace("epochs = 27", "epochs = 27\nevaluator = true");
    assert!(mistakes(&judged, "m.toml").await[0].1.starts_with("trials are judged where they pause"));
    let steps = all.replace("epochs = 27", "steps = 27");
    assert!(mistakes(&steps, "m.toml").await[0].1.starts_with("asha lets trials pause between epochs"));
    let (swept, _) = trials(&steps.replace("asha", "random"), "m.toml").await;
    assert_eq!((swept.settings.len(), swept.course.rungs()), (20, [u64::MAX].as_slice()));
}

#[tokio::test]
async fn what_cannot_be_tried_in_sql_is_told_too() {
    let check = async |options: &str, word: &str, message: &str| {
        let text = sql(options);
        let found = mistakes(&text, "m.sql").await;
        let hit = found.iter().any(|(at, said, help)| at.contains(word) && format!("{said} {help}").contains(message));
        assert!(hit, "{options}\n{found:#?}\nexpected {message} at {word}");
    };
    let random = "sweep.algorithm = 'random'";
    check(random, "m", "the sweep tries nothing").await;
    check("sweep.space.batch = '8'", "m", "'algorithm' is missing in sweep.… of CREATE MODEL").await;
    check(&format!("{random}, sweep.trails = '3', sweep.space.batch = '8'"), "sweep.trails", "did you mean 'trials'?")
        .await;
    check(&format!("{random}, sweep.space.batsh = '8'"), "sweep.space.batsh", "did you mean 'batch'?").await;
    check(&format!("{random}, sweep.space.label = 'y'"), "sweep.space.label", "compared by one metric").await;
    check(&format!("{random}, sweep.space.batch = 'uniform(8)'"), "uniform(8)", "uniform has no two numbers").await;
    check(&format!("{random}, sweep.space.batch = 'many'"), "many", "trial 1: batch is 'many'").await;
    let two = format!(
        "{} CREATE TABLE u (a DOUBLE); INSERT INTO u SELECT a FROM t;",
        sql(&format!("{random}, sweep.space.batch = '8'"))
    );
    assert!(mistakes(&two, "m.sql").await[0].1.contains("has nothing to run but its model"));
}
