//! A network from outside, and the model that it becomes.

use super::Error;
use super::package::{Package, pack};
use crate::columns::DEFAULT_INPUT;
use crate::graph::{self, Graph, Source, Wanted};
use crate::preprocess::{InputState, Preprocessing, State};
use crate::registry::{Lineage, Manifest};
use jobs::train::{Loss, Node, Preprocess};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

/// As it was read; names of columns are not known, unless it was ours.
#[derive(Debug)]
pub struct Network {
    /// Their columns are named as [`columns_of`] has it.
    pub inputs: Vec<InputState>,
    pub layers: Vec<Node>,
    /// A layer.
    pub output: String,
    /// Dimensions and values by name of the parameter.
    pub weights: BTreeMap<String, (Vec<usize>, Rc<Vec<f32>>)>,
    /// What was found at its end, if anything was.
    pub loss: Option<Loss>,
    pub classes: Vec<String>,
    pub label: Option<String>,
    /// In the order in which scoring takes them; those of the inputs where it is not said.
    pub features: Option<Vec<String>>,
}

/// What a user says of it.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub model: String,
    /// Where it comes from, for people.
    pub origin: String,
    pub loss: Option<Loss>,
    pub label: Option<String>,
    /// By input: names of its columns, one for each value or one that holds lists.
    pub columns: BTreeMap<String, Vec<String>>,
}

/// More are one column of lists.
const MOST_COLUMNS: usize = 1024;

/// Columns of an input that has no names for them: of one dimension one for each value, else one of lists.
pub fn columns_of(input: &str, dims: &[usize]) -> (Vec<String>, Vec<usize>) {
    match dims {
        [1] => (vec![input.to_string()], vec![1]),
        [width] if *width <= MOST_COLUMNS => ((0..*width).map(|at| format!("{input}_{at}")).collect(), vec![1; *width]),
        dims => (vec![input.to_string()], vec![dims.iter().product()]),
    }
}

/// An input of numbers or ids as the layers read them.
pub fn input_of(name: &str, dims: &[usize], step: Preprocess, state: State) -> InputState {
    let (columns, widths) = columns_of(name, dims);
    let dims = if dims.len() == 1 { Vec::new() } else { dims.to_vec() };
    InputState { input: jobs::train::Input { name: name.to_string(), columns, step, dims }, widths, state }
}

impl Network {
    /// As one file, which a registry takes as a version.
    pub fn packed(self, settings: &Settings) -> Result<Vec<u8>, Error> {
        let Package { manifest, graph } = self.model(settings)?;
        pack(&manifest, &graph)
    }

    /// The model that it becomes.
    pub fn model(mut self, settings: &Settings) -> Result<Package, Error> {
        self.name_columns(&settings.columns)?;
        let preprocessing = Preprocessing { inputs: self.inputs };
        preprocessing.check().map_err(|(input, reason)| Error::Input { input, reason })?;
        let shapes = preprocessing.shapes().map_err(|source| Error::Inputs { source: Box::new(source) })?;
        let sources = Source::all(shapes);
        let wanted = Wanted { sources: &sources, layers: &self.layers, output: Some(&self.output), outputs: 1 };
        // Before room is made for weights that are not there.
        for (parameter, expected) in graph::parameters(wanted).map_err(|source| Error::Graph { source })? {
            let wrong = |reason: String| Err(Error::Weights { parameter: parameter.clone(), reason });
            match self.weights.get(&parameter) {
                None => return wrong(format!("there are none; they are {expected:?}")),
                Some((dims, _)) if *dims != expected => {
                    return wrong(format!("they are {dims:?}, the layer's are {expected:?}"));
                }
                Some((dims, values)) if values.len() != dims.iter().product::<usize>() => {
                    return wrong(format!("{} values are not {dims:?}", values.len()));
                }
                Some((_, values)) if values.iter().any(|value| !value.is_finite()) => {
                    return wrong("a number that is none, or infinite, is among them".to_string());
                }
                Some(_) => {}
            }
        }
        let mut graph = Graph::<f32>::new(wanted, 0).map_err(|source| Error::Graph { source })?;
        let (slots, weights) = graph.weights_mut();
        for slot in slots {
            if let Some((_, values)) = self.weights.get(&slot.name) {
                weights[slot.range.clone()].copy_from_slice(values);
            }
        }
        let outputs = graph.output().dims.last().copied().unwrap_or(1);
        let loss = match settings.loss.or(self.loss) {
            Some(loss) => loss,
            None if outputs > 1 => Loss::CrossEntropy,
            None => Loss::MeanSquaredError,
        };
        if (loss == Loss::CrossEntropy) != (outputs > 1) {
            let reason = match outputs {
                1 => "it gives one number of a row, and each class needs one; say --task binary or regression"
                    .to_string(),
                _ => format!("it gives {outputs} numbers of a row, and only classes have so many; say --task classes"),
            };
            return Err(Error::Output { output: self.output, reason });
        }
        let mut features: Vec<String> = Vec::new();
        for column in preprocessing.inputs.iter().flat_map(|state| &state.input.columns) {
            if !features.contains(column) {
                features.push(column.clone());
            }
        }
        if let Some(known) = self.features.filter(|_| settings.columns.is_empty()) {
            let same = known.len() == features.len() && known.iter().all(|name| features.contains(name));
            if same {
                features = known;
            }
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let manifest = Manifest {
            format: Manifest::FORMAT,
            model: settings.model.clone(),
            version: 0,
            job: settings.origin.clone(),
            generation: 0,
            features,
            label: settings.label.clone().or(self.label).unwrap_or_else(|| "label".to_string()),
            outputs,
            layers: self.layers,
            output: Some(self.output),
            loss,
            classes: if loss == Loss::CrossEntropy && self.classes.len() == outputs {
                self.classes
            } else {
                Vec::new()
            },
            preprocessing,
            metrics: BTreeMap::new(),
            trained_through_us: None,
            rows: 0,
            rows_held_out: 0,
            steps: 0,
            seed: 0,
            seconds: 0.0,
            evaluation: None,
            created_us: now.as_micros() as i64,
            // Of the file that it will lie in.
            weights_digest: String::new(),
            lineage: Lineage::default(),
        };
        Ok(Package { manifest, graph })
    }

    fn name_columns(&mut self, columns: &BTreeMap<String, Vec<String>>) -> Result<(), Error> {
        let known: Vec<String> = self.inputs.iter().map(|state| state.input.name.clone()).collect();
        for (name, columns) in columns {
            // Without a name: the only one.
            let only = self.inputs.len() == 1 && name.is_empty();
            let Some(state) = self.inputs.iter_mut().find(|state| only || state.input.name == *name) else {
                let input = if name.is_empty() { DEFAULT_INPUT.to_string() } else { name.clone() };
                return Err(Error::Input { input, reason: format!("the file's inputs are {}", known.join(", ")) });
            };
            let width = state.width();
            state.widths = match columns.len() {
                given if given == width => vec![1; width],
                1 => vec![width],
                given => {
                    let (input, each) = (state.input.name.clone(), width);
                    let reason = format!(
                        "{given} columns are named and a row of it has {each} values; name as many, or one that holds lists"
                    );
                    return Err(Error::Input { input, reason });
                }
            };
            state.input.columns = columns.clone();
        }
        Ok(())
    }
}
