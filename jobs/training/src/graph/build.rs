//! From layers as a user says them to steps, and from their parameters to one flat array.

use crate::graph::operation::{Built, Kernel, Kind, Parameter, Role, Shape};
use crate::graph::run::Memory;
use crate::graph::{Error, first, layers};
use crate::pages;
use crate::real::Real;
use jobs::train::{Activation, Layer, Node};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;

/// The dense layer that is put behind the last node when no output is named.
const OUTPUT: &str = "output";

/// An input of the graph: what data must give for each row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub name: String,
    pub shape: Shape,
}

impl Source {
    /// One dimension of numbers.
    pub fn numbers(name: &str, width: usize) -> Self {
        Self { name: name.to_string(), shape: Shape::reals(&[width]) }
    }

    pub fn all(shapes: Vec<(String, Shape)>) -> Vec<Self> {
        shapes.into_iter().map(|(name, shape)| Self { name, shape }).collect()
    }
}

/// What is asked of a graph.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub sources: &'a [Source],
    pub layers: &'a [Node],
    /// As in [`jobs::TrainBody::output`].
    pub output: Option<&'a str>,
    /// Of the layer that is put behind the last node when no output is named.
    pub outputs: usize,
}

/// Where one parameter lies in every flat array.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    pub name: String,
    pub dims: Vec<usize>,
    pub role: Role,
    /// Among the weights, and in every array that has a value for each weight.
    pub range: Range<usize>,
    pub gradient: Place,
}

/// Where the gradient of a parameter is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the flat array of gradients, which has no room for tables.
    Whole(Range<usize>),
    /// The number of the table.
    Rows(usize),
}

impl Slot {
    /// Values of one row, of a table.
    pub fn width(&self) -> usize {
        self.dims[1..].iter().product()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    Source(usize),
    Step(usize),
}

/// What a step does with the gradient of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Nothing,
    /// It is the first to say something about it.
    Write,
    /// Another reader has already written.
    Add,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Edge {
    pub from: From,
    pub ask: Ask,
}

#[derive(Debug)]
pub(super) struct Operator {
    pub name: String,
    pub kind: &'static str,
    pub kernel: Box<dyn Kernel>,
    pub edges: Vec<Edge>,
    pub shape: Shape,
    /// Places in the slots, in the order in which the operation asked for them.
    pub parameters: Vec<usize>,
    /// Whether anything at or before it is trained.
    pub trains: bool,
}

/// A graph and its weights.
#[derive(Debug)]
pub struct Graph<T> {
    pub(super) sources: Vec<Source>,
    pub(super) steps: Vec<Operator>,
    pub(super) slots: Vec<Slot>,
    pub(super) weights: Vec<T>,
    /// The step whose values are the output.
    pub(super) output: usize,
    output_shape: Shape,
    pub(super) tables: usize,
    pub(super) gradient_len: usize,
    /// Of runs that have ended, to be used again; as many as ever ran at once.
    pub(super) idle: Mutex<Vec<Memory<T>>>,
}

impl<T: Real> Graph<T> {
    pub fn new(wanted: Wanted<'_>, seed: u64) -> Result<Self, Error> {
        let (builder, output) = Builder::laid_out(wanted)?;
        builder.finish(output, seed)
    }

    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Of one row.
    pub fn output(&self) -> &Shape {
        &self.output_shape
    }

    /// Values of the output of one row.
    pub fn outputs(&self) -> usize {
        self.output_shape.size()
    }

    /// Number of values in all parameters.
    pub fn size(&self) -> usize {
        self.weights.len()
    }

    pub fn weights(&self) -> &[T] {
        &self.weights
    }

    /// With the slots that say where in the weights each parameter lies.
    pub fn weights_mut(&mut self) -> (&[Slot], &mut [T]) {
        (&self.slots, &mut self.weights)
    }

    /// One value per weight.
    pub fn set_weights(&mut self, weights: &[T]) {
        self.weights.copy_from_slice(weights);
    }
}

struct Builder<'a> {
    sources: &'a [Source],
    steps: Vec<Operator>,
    /// What a name stands for.
    names: BTreeMap<String, (From, Shape)>,
    last: Option<String>,
    /// With the step that asked for it.
    parameters: Vec<(String, usize, Parameter)>,
}

/// Whether layers fit each other and what they read, without making their weights; the shape of the output.
pub fn check(wanted: Wanted<'_>) -> Result<Shape, Error> {
    let (mut builder, output) = Builder::laid_out(wanted)?;
    Ok(builder.resolve(output)?.1)
}

/// Names and dimensions of all parameters, before any of them is made.
pub fn parameters(wanted: Wanted<'_>) -> Result<Vec<(String, Vec<usize>)>, Error> {
    let (builder, _) = Builder::laid_out(wanted)?;
    Ok(builder.parameters.into_iter().map(|(name, _, parameter)| (name, parameter.dims)).collect())
}

impl<'a> Builder<'a> {
    /// With the name of the output.
    fn laid_out(wanted: Wanted<'a>) -> Result<(Self, &'a str), Error> {
        let mut builder = Self::new(wanted.sources)?;
        for node in wanted.layers {
            builder.put(node)?;
        }
        let output = match wanted.output {
            Some(output) => output,
            None => {
                let layer = Layer::dense(wanted.outputs, Activation::Linear);
                builder.put(&Node { name: OUTPUT.to_string(), inputs: Vec::new(), layer })?;
                OUTPUT
            }
        };
        Ok((builder, output))
    }

    fn new(sources: &'a [Source]) -> Result<Self, Error> {
        let mut names = BTreeMap::new();
        for (index, source) in sources.iter().enumerate() {
            if names.insert(source.name.clone(), (From::Source(index), source.shape.clone())).is_some() {
                return Err(Error::Twice { name: source.name.clone() });
            }
        }
        Ok(Self { sources, steps: Vec::new(), names, last: None, parameters: Vec::new() })
    }

    fn put(&mut self, node: &Node) -> Result<(), Error> {
        let wrong = |reason| Error::Layer { node: node.name.clone(), kind: node.layer.kind(), reason };
        let mut reads = node.inputs.clone();
        if reads.is_empty() {
            reads.push(match (&self.last, self.sources) {
                (Some(last), _) => last.clone(),
                (None, [only]) => only.name.clone(),
                (None, _) => {
                    let names: Vec<&str> = self.sources.iter().map(|source| source.name.as_str()).collect();
                    return Err(wrong(format!("say which of the inputs {} it reads", names.join(", "))));
                }
            });
        }
        let mut froms = Vec::with_capacity(reads.len());
        let mut shapes = Vec::with_capacity(reads.len());
        for name in &reads {
            let Some((from, shape)) = self.names.get(name) else {
                let known: Vec<&str> = self.names.keys().map(String::as_str).collect();
                return Err(wrong(format!("it reads '{name}', before it there are only {}", known.join(", "))));
            };
            froms.push(*from);
            shapes.push(shape.clone());
        }
        self.last = Some(node.name.clone());
        let width = shapes.first().and_then(|shape| shape.dims.last()).copied().unwrap_or(0);
        if let Some(parts) = layers::parts(node, &reads[0], width) {
            if reads.len() > 1 {
                return Err(wrong(format!("it reads one input, not {}", reads.len())));
            }
            return parts.iter().try_for_each(|part| self.put(part));
        }
        let (from, shape) = if let Some(shape) = layers::renamed(&node.layer, &shapes) {
            (froms[0], shape.map_err(wrong)?)
        } else {
            let built = layers::built(&node.name, &node.layer, &shapes)
                .map_err(|reason| wrong(format!("{reason} (it reads {})", told(&reads, &shapes))))?;
            if built.output.size() == 0 {
                return Err(wrong(format!("its output {:?} has no values", built.output.dims)));
            }
            self.push(node, &froms, built)
        };
        match self.names.insert(node.name.clone(), (from, shape)) {
            None => Ok(()),
            Some(_) => Err(Error::Twice { name: node.name.clone() }),
        }
    }

    fn push(&mut self, node: &Node, froms: &[From], built: Built) -> (From, Shape) {
        let Built { output, parameters, kernel } = built;
        let index = self.steps.len();
        let trains = parameters.iter().any(|parameter| is_trained(parameter.role))
            || froms.iter().any(|from| matches!(from, From::Step(step) if self.steps[*step].trains));
        for parameter in parameters {
            self.parameters.push((format!("{}.{}", node.name, parameter.name), index, parameter));
        }
        self.steps.push(Operator {
            name: node.name.clone(),
            kind: node.layer.kind(),
            kernel,
            edges: froms.iter().map(|from| Edge { from: *from, ask: Ask::Nothing }).collect(),
            shape: output.clone(),
            parameters: Vec::new(),
            trains,
        });
        (From::Step(index), output)
    }

    /// The step that gives the output, and its shape.
    fn resolve(&mut self, output: &str) -> Result<(usize, Shape), Error> {
        let wrong = |reason: String| Error::Output { name: output.to_string(), reason };
        let (step, output_shape) = match self.names.get(output) {
            Some((From::Step(step), shape)) if shape.kind == Kind::Reals => (*step, shape.clone()),
            Some(_) => return Err(wrong("it is an input".to_string())),
            None => {
                let known: Vec<&str> = self.steps.iter().map(|step| step.name.as_str()).collect();
                return Err(wrong(format!("there are only {}", known.join(", "))));
            }
        };
        if !self.steps[step].trains {
            return Err(wrong("nothing before it is trained".to_string()));
        }
        self.ask(step, output)?;
        Ok((step, output_shape))
    }

    fn finish<T: Real>(mut self, output: &str, seed: u64) -> Result<Graph<T>, Error> {
        let (step, output_shape) = self.resolve(output)?;
        let slots = self.slots()?;
        let mut weights = pages::zeros(slots.last().map_or(0, |slot| slot.range.end));
        for (slot, (_, _, parameter)) in slots.iter().zip(&self.parameters) {
            first::values(&slot.name, parameter.initial, seed, &mut weights[slot.range.clone()]);
        }
        let tables = slots.iter().filter(|slot| matches!(slot.gradient, Place::Rows(_))).count();
        let gradient_len =
            slots.iter().map(|slot| if let Place::Whole(range) = &slot.gradient { range.len() } else { 0 });
        Ok(Graph {
            sources: self.sources.to_vec(),
            steps: self.steps,
            gradient_len: gradient_len.sum(),
            slots,
            weights,
            output: step,
            output_shape,
            tables,
            idle: Mutex::new(Vec::new()),
        })
    }

    /// Decides, in the order in which gradients flow, who writes the gradient of a step first and who adds to it.
    fn ask(&mut self, output: usize, name: &str) -> Result<(), Error> {
        let mut written = vec![false; self.steps.len()];
        written[output] = true;
        for index in (0..self.steps.len()).rev() {
            if !written[index] {
                let (node, kind) = (self.steps[index].name.clone(), self.steps[index].kind);
                if self.steps[index].trains || !self.is_read(index) {
                    return Err(Error::NoWay { node, kind, output: name.to_string() });
                }
                continue;
            }
            let trains: Vec<bool> = self.steps.iter().map(|step| step.trains).collect();
            for edge in &mut self.steps[index].edges {
                if let From::Step(from) = edge.from
                    && trains[from]
                {
                    edge.ask = if written[from] { Ask::Add } else { Ask::Write };
                    written[from] = true;
                }
            }
        }
        Ok(())
    }

    fn is_read(&self, index: usize) -> bool {
        self.steps.iter().any(|step| step.edges.iter().any(|edge| edge.from == From::Step(index)))
    }

    /// Puts the parameters in order and tells each step where its own are.
    fn slots(&mut self) -> Result<Vec<Slot>, Error> {
        let asked: Vec<(String, usize)> = self.parameters.iter().map(|(name, step, _)| (name.clone(), *step)).collect();
        self.parameters.sort_by(|left, right| left.0.cmp(&right.0));
        if let Some(pair) = self.parameters.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(Error::Twice { name: pair[0].0.clone() });
        }
        let (mut end, mut gradient_end, mut tables) = (0, 0, 0);
        let mut slots = Vec::with_capacity(self.parameters.len());
        for (name, _, Parameter { dims, role, .. }) in &self.parameters {
            let len = dims.iter().product::<usize>();
            let gradient = if *role == Role::Table {
                tables += 1;
                Place::Rows(tables - 1)
            } else {
                gradient_end += len;
                Place::Whole(gradient_end - len..gradient_end)
            };
            slots.push(Slot { name: name.clone(), dims: dims.clone(), role: *role, range: end..end + len, gradient });
            end += len;
        }
        for (name, step) in asked {
            let slot = slots.binary_search_by(|slot| slot.name.cmp(&name)).expect("every parameter has a slot");
            self.steps[step].parameters.push(slot);
        }
        Ok(slots)
    }
}

fn is_trained(role: Role) -> bool {
    !matches!(role, Role::Statistic { .. })
}

fn told(names: &[String], shapes: &[Shape]) -> String {
    let one = |(name, shape): (&String, &Shape)| match shape.kind {
        Kind::Reals => format!("'{name}' {:?}", shape.dims),
        Kind::Ids { size } => format!("'{name}' {:?} of ids below {size}", shape.dims),
    };
    names.iter().zip(shapes).map(one).collect::<Vec<_>>().join(", ")
}
