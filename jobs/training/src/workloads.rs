//! The steps that benches time: graphs of the sizes that others have figures for, on made-up data.
//!
//! A step is everything from a batch at hand to moved weights: forward, backward, update. Times are of whole blocks of steps, so
//! that nothing is read off a clock within them, and the median of the blocks is given.

use crate::graph::operation::{Kind, Place, Shape, Values};
use crate::graph::{self, Graph, Source, Wanted};
use crate::loss::Targets;
use crate::optimizer::Optimizer;
use crate::random::{self, Purpose};
use crate::sums::Sums;
use jobs::train::{self, Activation, Clip, Combine, Layer, Loss, Node, Padding, chain};
use rand_chacha::rand_core::RngCore;
use std::time::{Duration, Instant};

pub mod gang;

/// Batches made up beforehand, taken in turn.
const BATCHES: usize = 16;
const BLOCKS: usize = 7;
const BLOCK: Duration = Duration::from_millis(250);

/// What is timed, and how it is called in the scripts of the peers.
#[derive(Clone, Debug)]
pub struct Workload {
    pub name: &'static str,
    sources: Vec<Source>,
    layers: Vec<Node>,
    output: Option<&'static str>,
    /// Of the output layer where none is named, and the number of classes.
    outputs: usize,
    loss: Loss,
    /// None: forward only.
    optimizer: Option<train::Optimizer>,
    batch: usize,
}

fn numbers(name: &str, dims: &[usize]) -> Source {
    Source { name: name.to_string(), shape: Shape::reals(dims) }
}

fn ids(name: &str, count: usize, size: usize) -> Source {
    Source { name: name.to_string(), shape: Shape { kind: Kind::Ids { size }, dims: vec![count] } }
}

fn node(name: &str, inputs: &[&str], layer: Layer) -> Node {
    Node { name: name.to_string(), inputs: inputs.iter().map(ToString::to_string).collect(), layer }
}

fn adam(lazy: bool) -> train::Optimizer {
    train::Optimizer::Adam { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, lazy }
}

const ADAMW: train::Optimizer =
    train::Optimizer::AdamW { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 };

/// In the order in which they are reported.
pub fn all() -> Vec<Workload> {
    let sgd = train::Optimizer::Sgd { learning_rate: 0.1, momentum: 0.0, nesterov: false };
    let adagrad = train::Optimizer::Adagrad { learning_rate: 0.1, epsilon: 1e-10 };
    vec![
        logistic("logistic_sgd", sgd),
        logistic("logistic_adagrad", adagrad),
        wide_and_deep("wide_deep_adam", adam(false)),
        wide_and_deep("wide_deep_lazy_adam", adam(true)),
        mlp("mlp_adamw", Some(ADAMW), 128),
        cnn(),
        gpt(),
        lstm(),
        mlp("mlp_forward_1024", None, 1024),
        mlp("mlp_forward_1", None, 1),
    ]
}

/// Hashed logistic regression: 26 fields hashed into one table, and 13 numbers.
fn logistic(name: &'static str, optimizer: train::Optimizer) -> Workload {
    const BUCKETS: usize = 1 << 20;
    let weights = Layer::Embedding { vocabulary: BUCKETS, units: 1, combine: Combine::Sum };
    Workload {
        name,
        sources: vec![ids("fields", 26, BUCKETS), numbers("numbers", &[13])],
        layers: vec![
            node("hashed", &["fields"], weights),
            node("linear", &["numbers"], Layer::dense(1, Activation::Linear)),
            node("sum", &["hashed", "linear"], Layer::Add),
        ],
        output: Some("sum"),
        outputs: 1,
        loss: Loss::BinaryCrossEntropy,
        optimizer: Some(optimizer),
        batch: 1024,
    }
}

fn wide_and_deep(name: &'static str, optimizer: train::Optimizer) -> Workload {
    const BUCKETS: usize = 1 << 18;
    let deep = Layer::Embedding { vocabulary: BUCKETS, units: 16, combine: Combine::None };
    let wide = Layer::Embedding { vocabulary: BUCKETS, units: 1, combine: Combine::Sum };
    Workload {
        name,
        sources: vec![ids("fields", 26, BUCKETS), numbers("numbers", &[13])],
        layers: vec![
            node("deep", &["fields"], deep),
            node("flat", &["deep"], Layer::Flatten),
            node("all", &["flat", "numbers"], Layer::Concat),
            node("first", &["all"], Layer::dense(256, Activation::Relu)),
            node("second", &["first"], Layer::dense(128, Activation::Relu)),
            node("third", &["second"], Layer::dense(1, Activation::Linear)),
            node("wide", &["fields"], wide),
            node("sum", &["third", "wide"], Layer::Add),
        ],
        output: Some("sum"),
        outputs: 1,
        loss: Loss::BinaryCrossEntropy,
        optimizer: Some(optimizer),
        batch: 1024,
    }
}

fn mlp(name: &'static str, optimizer: Option<train::Optimizer>, batch: usize) -> Workload {
    Workload {
        name,
        sources: vec![numbers("features", &[784])],
        layers: chain([Layer::dense(512, Activation::Relu), Layer::dense(256, Activation::Relu)]),
        output: None,
        outputs: 10,
        loss: Loss::CrossEntropy,
        optimizer,
        batch,
    }
}

fn cnn() -> Workload {
    let convolution = |filters| Layer::Conv2d {
        filters,
        kernel: [3, 3],
        stride: [1, 1],
        padding: Padding::Same,
        activation: Activation::Relu,
    };
    let pool = || Layer::MaxPool { size: [2, 2], stride: [2, 2], padding: Padding::Valid };
    Workload {
        name: "cnn_adam",
        sources: vec![numbers("pixels", &[28, 28, 1])],
        layers: chain([
            convolution(32),
            pool(),
            convolution(64),
            pool(),
            Layer::Flatten,
            Layer::dense(128, Activation::Relu),
        ]),
        output: None,
        outputs: 10,
        loss: Loss::CrossEntropy,
        optimizer: Some(adam(false)),
        batch: 64,
    }
}

fn gpt() -> Workload {
    const WORDS: usize = 512;
    const WIDTH: usize = 128;
    let mut layers =
        vec![Layer::Embedding { vocabulary: WORDS, units: WIDTH, combine: Combine::None }, Layer::Position];
    for _ in 0..4 {
        layers.push(Layer::Transformer {
            heads: 4,
            hidden: 4 * WIDTH,
            causal: true,
            activation: Activation::Gelu,
            dropout: 0.0,
        });
    }
    layers.push(Layer::LayerNorm { epsilon: 1e-5 });
    Workload {
        name: "gpt_adamw",
        sources: vec![ids("words", 128, WORDS)],
        layers: chain(layers),
        output: None,
        outputs: WORDS,
        loss: Loss::CrossEntropy,
        optimizer: Some(ADAMW),
        batch: 8,
    }
}

fn lstm() -> Workload {
    Workload {
        name: "lstm_adam",
        sources: vec![numbers("steps", &[32, 16])],
        layers: chain([Layer::Lstm { units: 64, sequences: false }]),
        output: None,
        outputs: 1,
        loss: Loss::BinaryCrossEntropy,
        optimizer: Some(adam(false)),
        batch: 256,
    }
}

/// A batch for one input.
enum Given {
    Reals(Vec<f32>),
    Ids(Vec<u32>),
}

impl Workload {
    /// Milliseconds of one step, or of one forward pass.
    pub fn measure(&self) -> Result<f64, graph::Error> {
        let begun = Instant::now();
        self.measure_by(&|| begun.elapsed())
    }

    /// By any clock: that of the processors, where other programs are running.
    pub fn measure_by(&self, clock: &dyn Fn() -> Duration) -> Result<f64, graph::Error> {
        let mut graph = self.graph()?;
        let batches: Vec<(Vec<Given>, Targets)> =
            (0..BATCHES as u64).map(|index| self.batch(index, graph.output())).collect();
        let mut run: Box<dyn FnMut(usize) -> Result<(), graph::Error>> = match &self.optimizer {
            None => {
                let mut output = Vec::new();
                Box::new(move |step| {
                    output.clear();
                    let (given, _) = &batches[step % BATCHES];
                    graph.infer(&values(given), self.batch, &mut output)
                })
            }
            Some(settings) => {
                let mut optimizer = Optimizer::new(settings.clone(), Clip::None, graph.size());
                let mut sums = Sums::new(&graph, false);
                Box::new(move |step| {
                    let (given, targets) = &batches[step % BATCHES];
                    let one = graph::Step {
                        loss: self.loss,
                        target: targets.as_target(),
                        scale: 1.0 / self.batch as f64,
                        place: Place { seed: 1, step: step as u64, first_row: 0, global_rows: self.batch },
                    };
                    sums.clear();
                    sums.add(|gradients| graph.gradients(&values(given), self.batch, one, gradients))?;
                    let (slots, weights) = graph.weights_mut();
                    optimizer.update(1.0, slots, weights, &sums.gradients());
                    Ok(())
                })
            }
        };
        let mut step = 0;
        let mut block = |steps: usize| -> Result<Duration, graph::Error> {
            let started = clock();
            for _ in 0..steps {
                run(step)?;
                step += 1;
            }
            Ok(clock() - started)
        };
        // The first steps fill memory; the next say how many make a block.
        block(3)?;
        let one = block(5)? / 5;
        let steps = (BLOCK.as_secs_f64() / one.as_secs_f64().max(1e-7)).ceil().clamp(3.0, 1e5) as usize;
        let mut times = Vec::with_capacity(BLOCKS);
        for _ in 0..BLOCKS {
            times.push(block(steps)?.as_secs_f64() * 1e3 / steps as f64);
        }
        times.sort_by(f64::total_cmp);
        Ok(times[BLOCKS / 2])
    }

    fn graph(&self) -> Result<Graph<f32>, graph::Error> {
        let Self { sources, layers, output, outputs, .. } = self;
        Graph::new(Wanted { sources, layers, output: *output, outputs: *outputs }, 1)
    }

    fn batch(&self, index: u64, output: &Shape) -> (Vec<Given>, Targets) {
        let mut rng = random::stream(7, Purpose::Shuffle, index, 0);
        let mut given = Vec::new();
        for source in &self.sources {
            let len = self.batch * source.shape.size();
            given.push(match source.shape.kind {
                Kind::Reals => Given::Reals((0..len).map(|_| random::uniform(&mut rng)).collect()),
                Kind::Ids { size } => Given::Ids((0..len).map(|_| rng.next_u32() % size as u32).collect()),
            });
        }
        let places = self.batch * output.size() / self.outputs;
        let mut below = |bound: usize| rng.next_u32() % bound as u32;
        let targets = match self.loss {
            Loss::CrossEntropy => Targets::Classes((0..places).map(|_| below(self.outputs)).collect()),
            _ => Targets::Values((0..places).map(|_| below(2) as f32).collect()),
        };
        (given, targets)
    }
}

fn values<'a>(given: &'a [Given]) -> Vec<Values<'a, f32>> {
    let one = |given: &'a Given| match given {
        Given::Reals(values) => Values::Reals(values),
        Given::Ids(ids) => Values::Ids(ids),
    };
    given.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A step takes seconds where kernels are not optimised, so that only the shapes are held together here.
    #[test]
    fn workloads_fit_together_and_have_the_sizes_they_say() {
        let sizes: Vec<(&str, usize)> =
            all().iter().map(|workload| (workload.name, workload.graph().unwrap().size())).collect();
        let of = |name: &str| sizes.iter().find(|(known, _)| *known == name).map(|(_, size)| *size);
        assert_eq!(of("logistic_sgd"), Some((1 << 20) + 14));
        assert_eq!(of("wide_deep_lazy_adam"), Some((1 << 18) * 17 + 430 * 256 + 257 * 128 + 129));
        assert_eq!(of("mlp_adamw"), Some(785 * 512 + 513 * 256 + 257 * 10));
        assert_eq!(of("cnn_adam"), Some(10 * 32 + 289 * 64 + 3137 * 128 + 129 * 10));
        let block = 4 * 128 + 129 * 384 + 129 * 128 + 129 * 512 + 513 * 128;
        assert_eq!(of("gpt_adamw"), Some(512 * 128 + 128 * 128 + 4 * block + 256 + 129 * 512));
    }
}
