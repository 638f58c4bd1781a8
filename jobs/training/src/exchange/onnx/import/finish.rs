//! The end of an import: what the output is, which layers lead to it, and what they are called.

use super::super::flow::{Flow, Place, Reads, Stage};
use super::super::metadata::Metadata;
use super::{Importer, Partial, Value};
use crate::exchange::network::input_of;
use crate::exchange::{Error, Network};
use crate::normalization::Normalization;
use crate::preprocess::{InputState, State};
use jobs::train::{Activation, Layer, Loss, Node, Preprocess};
use std::collections::{BTreeMap, BTreeSet, HashMap};

impl Importer<'_> {
    pub fn finish(mut self, output: &str, metadata: Option<Metadata>) -> Result<Network, Error> {
        let failed = |reason: String| Error::Output { output: output.to_string(), reason };
        let (flow, loss) = match self.values.remove(output) {
            Some(Value::Flow(flow)) => self.answer(flow).map_err(failed)?,
            Some(Value::Partial(Partial::Softmax(flow))) => (flow, Some(Loss::CrossEntropy)),
            Some(Value::Partial(partial)) => return Err(failed(partial.unfinished())),
            Some(Value::Constant(_)) => return Err(failed("it does not depend on the inputs".to_string())),
            None => return Err(failed("there is no such tensor".to_string())),
        };
        let dims = flow.view.own_dims();
        let place = self.layers.plain(&flow, &dims).map_err(failed)?;
        let Place::Layer(last) = place else { return Err(failed("it is an input".to_string())) };
        let live = self.live(last);
        self.within_bounds(&live).map_err(failed)?;
        let (inputs, names_of_sources) = self.inputs(&live)?;
        let mut taken: BTreeSet<String> = inputs.iter().map(|state| state.input.name.clone()).collect();
        let mut names: HashMap<usize, String> = HashMap::new();
        let mut layers = Vec::with_capacity(live.len());
        let mut weights = BTreeMap::new();
        for at in live {
            let pending = &self.layers.all[at];
            let Stage::Layer(layer) = &pending.stage else {
                return Err(failed("it reads the heads of an attention that are not put together".to_string()));
            };
            let name = fresh(&mut taken, &pending.wish);
            for (parameter, dims, values) in &pending.weights {
                weights.insert(format!("{name}.{parameter}"), (dims.clone(), std::rc::Rc::clone(values)));
            }
            let read = |place: &Place| match place {
                Place::Source(at) => names_of_sources.get(at).cloned().unwrap_or_default(),
                Place::Layer(at) => names.get(at).cloned().unwrap_or_default(),
            };
            let inputs = pending.reads.iter().map(read).collect();
            layers.push(Node { name: name.clone(), inputs, layer: layer.clone() });
            names.insert(at, name);
        }
        let output = names.remove(&last).unwrap_or_default();
        let mut network =
            Network { inputs, layers, output, weights, loss, classes: Vec::new(), label: None, features: None };
        if let Some(metadata) = metadata {
            network.loss = Some(metadata.loss);
            network.classes = metadata.classes;
            network.label = Some(metadata.label);
            network.features = Some(metadata.features);
        }
        Ok(network)
    }

    /// What the loss reads of an output: not the probability that is made of it.
    fn answer(&mut self, flow: Flow) -> Result<(Flow, Option<Loss>), String> {
        let Some((layer, before)) = self.layers.layer(flow.place) else { return Ok((flow, None)) };
        if before.dims.iter().product::<usize>() != 1 {
            return Ok((flow, None));
        }
        match layer {
            Layer::Activation { function: Activation::Sigmoid } => {
                let place = before.reads[0];
                Ok((self.layers.flow(place), Some(Loss::BinaryCrossEntropy)))
            }
            Layer::Dense { activation: Activation::Sigmoid, units, bias } => {
                let mut linear = before.clone();
                linear.stage =
                    Stage::Layer(Layer::Dense { activation: Activation::Linear, units: *units, bias: *bias });
                self.layers.all.push(linear);
                let place = Place::Layer(self.layers.all.len() - 1);
                Ok((Flow { place, ..flow }, Some(Loss::BinaryCrossEntropy)))
            }
            _ => Ok((flow, None)),
        }
    }

    /// Layers that lead to `last`, each after those that it reads.
    fn live(&self, last: usize) -> Vec<usize> {
        let mut live = BTreeSet::from([last]);
        // A layer reads earlier ones only.
        for at in (0..=last).rev() {
            if live.contains(&at) {
                live.extend(self.layers.all[at].reads.iter().filter_map(|read| match read {
                    Place::Layer(at) => Some(*at),
                    Place::Source(_) => None,
                }));
            }
        }
        live.into_iter().collect()
    }

    /// Layers may share an array of the file, and here each has its own.
    fn within_bounds(&mut self, live: &[usize]) -> Result<(), String> {
        for at in live {
            for (_, _, values) in &self.layers.all[*at].weights {
                self.layers.budget.take(values.len())?;
            }
        }
        Ok(())
    }

    /// Inputs that layers read, and by number what they are called.
    fn inputs(&self, live: &[usize]) -> Result<(Vec<InputState>, HashMap<usize, String>), Error> {
        let read: BTreeSet<usize> = live
            .iter()
            .flat_map(|at| &self.layers.all[*at].reads)
            .filter_map(|read| match read {
                Place::Source(at) => Some(*at),
                Place::Layer(_) => None,
            })
            .collect();
        let mut taken = BTreeSet::new();
        let mut names = HashMap::new();
        let mut inputs = Vec::new();
        for at in read {
            let source = &self.layers.sources[at];
            let state = match &source.reads {
                Reads::Prepared(state) => state.clone(),
                Reads::Ids(size) => {
                    let size = size.ok_or_else(|| Error::Input {
                        input: source.name.clone(),
                        reason: "it is of whole numbers that no table looks up; export it as float".to_string(),
                    })?;
                    input_of(&source.name, &source.dims, Preprocess::Ids { size }, State::Nothing)
                }
                Reads::Numbers(None) => input_of(&source.name, &source.dims, Preprocess::Numbers, State::Nothing),
                Reads::Numbers(Some((mean, deviation))) => {
                    let of = |values: &[f64]| values.iter().map(|value| *value as f32).collect();
                    let learned = Normalization { mean: of(mean), deviation: of(deviation) };
                    input_of(&source.name, &source.dims, Preprocess::Normalize, State::Normalization(learned))
                }
            };
            let mut state = state;
            if let Some(places) = &source.places {
                // As the whole input's columns would be called.
                state.input.columns = places.iter().map(|place| format!("{}_{place}", source.name)).collect();
                state.widths = vec![1; places.len()];
            }
            let name = fresh(&mut taken, &plain(&state.input.name));
            if state.input.columns == [state.input.name.clone()] {
                state.input.columns = vec![name.clone()];
            }
            state.input.name.clone_from(&name);
            names.insert(at, name);
            inputs.push(state);
        }
        Ok((inputs, names))
    }
}

fn plain(name: &str) -> String {
    let letters = name.chars().map(|l| if l.is_ascii_alphanumeric() || "_-".contains(l) { l } else { '_' });
    let plain: String = letters.take(80).collect();
    if plain.is_empty() { "input".to_string() } else { plain }
}

fn fresh(taken: &mut BTreeSet<String>, wish: &str) -> String {
    let mut fresh = wish.to_string();
    let mut number = 1;
    while !taken.insert(fresh.clone()) {
        number += 1;
        fresh = format!("{wish}_{number}");
    }
    fresh
}
