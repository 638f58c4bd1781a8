//! Layers as they are found, and the values that flow between them.
//!
//! A layer is written down when its operator is met, and changed by those after it: a bias, an activation or a scale becomes
//! part of the layer before. A change makes another layer, so that whoever reads the first still finds it; what nobody reads in
//! the end is left out. Invariant: every layer fits what it reads, and has weights of the shapes that it asks for.

use super::constant::Budget;
use super::view::{Part, View, contiguous};
use crate::graph::layers;
use crate::graph::operation::{Kind, Shape};
use crate::preprocess::InputState;
use jobs::train::{Activation, Layer};
use std::collections::HashMap;
use std::rc::Rc;

/// More values of one row than any layer holds.
const MOST: usize = 1 << 28;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    Source(usize),
    Layer(usize),
}

/// Values of a layer as ONNX sees them, times a number.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    pub place: Place,
    pub view: View,
    pub scale: f64,
}

#[derive(Clone, Debug)]
pub struct Source {
    /// Of the file.
    pub name: String,
    pub dims: Vec<usize>,
    pub reads: Reads,
    /// Places in the file's input, where not all of them are read.
    pub places: Option<Vec<usize>>,
}

#[derive(Clone, Debug)]
pub enum Reads {
    /// (value - mean) / deviation, of each value of a row.
    Numbers(Option<(Vec<f64>, Vec<f64>)>),
    /// `None` until a table says how many there are.
    Ids(Option<usize>),
    /// As the file's metadata says.
    Prepared(InputState),
}

pub type Weight = (&'static str, Vec<usize>, Rc<Vec<f32>>);

#[derive(Clone, Debug)]
pub struct Pending {
    /// What it would like to be called.
    pub wish: String,
    pub stage: Stage,
    pub reads: Vec<Place>,
    pub dims: Vec<usize>,
    pub weights: Vec<Weight>,
}

#[derive(Clone, Debug)]
pub enum Stage {
    Layer(Layer),
    /// An attention whose heads no product with weights has put together yet: `[length, heads, depth]`.
    Heads(Box<Heads>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Heads {
    pub queries: Flow,
    pub keys: Flow,
    pub values: Option<Flow>,
    pub scale: f64,
    pub causal: bool,
}

#[derive(Debug)]
pub struct Layers {
    pub sources: Vec<Source>,
    pub all: Vec<Pending>,
    /// Rows of a batch as shapes have it.
    pub batch: usize,
    pub budget: Budget,
    /// By what is looked at, and how: so that all who look alike read the same layer.
    settled: HashMap<(Place, View, Vec<usize>, u64), Place>,
}

/// Values in an order in which a layer over the last dimension can read them.
pub struct Arranged {
    pub place: Place,
    pub dims: Vec<usize>,
    axes: Vec<Vec<Option<usize>>>,
    last: usize,
}

impl Arranged {
    /// Whether the values of both lie in one order, but for the last dimension.
    pub fn lies_as(&self, other: &Self) -> bool {
        let outer = |one: &Self| one.dims[..one.dims.len() - 1].to_vec();
        (&self.axes, outer(self)) == (&other.axes, outer(other))
    }

    /// How ONNX sees what a layer gives that has `units` values in the last dimension.
    pub fn back(&self, units: usize) -> View {
        let mut stride = units;
        let mut strides = vec![0; self.dims.len() - 1];
        for (at, dim) in self.dims[..self.dims.len() - 1].iter().enumerate().rev() {
            strides[at] = stride;
            stride *= dim;
        }
        let part = |place: &Option<usize>| match place {
            None => Part::Batch,
            Some(at) => Part::Own { size: self.dims[*at], stride: strides[*at] },
        };
        let mut axes: Vec<Vec<Part>> = self.axes.iter().map(|axis| axis.iter().map(part).collect()).collect();
        if units > 1 {
            axes[self.last].push(Part::Own { size: units, stride: 1 });
        }
        View { offset: 0, axes }
    }
}

impl Layers {
    pub fn new(batch: usize, budget: Budget) -> Self {
        Self { sources: Vec::new(), all: Vec::new(), batch, budget, settled: HashMap::new() }
    }

    pub fn dims(&self, place: Place) -> &[usize] {
        match place {
            Place::Source(at) => &self.sources[at].dims,
            Place::Layer(at) => &self.all[at].dims,
        }
    }

    fn shape(&self, place: Place) -> Result<Shape, String> {
        let dims = self.dims(place).to_vec();
        let kind = match place {
            Place::Source(at) => match &self.sources[at].reads {
                Reads::Numbers(_) => Kind::Reals,
                Reads::Ids(size) => Kind::Ids { size: size.unwrap_or(1) },
                Reads::Prepared(state) => state.shape().map_err(|error| error.to_string())?.kind,
            },
            Place::Layer(at) => match (&self.all[at].stage, &self.all[at].reads[..]) {
                (Stage::Layer(Layer::Reshape { .. } | Layer::Flatten), [read]) => self.shape(*read)?.kind,
                _ => Kind::Reals,
            },
        };
        Ok(Shape { kind, dims })
    }

    pub fn is_ids(&self, place: Place) -> bool {
        self.shape(place).is_ok_and(|shape| matches!(shape.kind, Kind::Ids { .. }))
    }

    pub fn layer(&self, place: Place) -> Option<(&Layer, &Pending)> {
        match place {
            Place::Layer(at) => match &self.all[at].stage {
                Stage::Layer(layer) => Some((layer, &self.all[at])),
                Stage::Heads(_) => None,
            },
            Place::Source(_) => None,
        }
    }

    pub fn heads(&self, place: Place) -> Option<&Heads> {
        match place {
            Place::Layer(at) => match &self.all[at].stage {
                Stage::Heads(heads) => Some(heads),
                Stage::Layer(_) => None,
            },
            Place::Source(_) => None,
        }
    }

    pub fn emit(&mut self, wish: &str, layer: Layer, reads: Vec<Place>, weights: Vec<Weight>) -> Result<Place, String> {
        if reads.iter().any(|place| self.heads(*place).is_some()) {
            return Err(
                "it reads the heads of an attention, which only a product with weights puts together".to_string()
            );
        }
        let shapes = reads.iter().map(|place| self.shape(*place)).collect::<Result<Vec<_>, _>>()?;
        if let Layer::Reshape { dims } = &layer {
            size(dims)?;
        }
        let output = match layers::renamed(&layer, &shapes) {
            Some(output) => output?,
            None => {
                let built = layers::built(wish, &layer, &shapes)?;
                for parameter in &built.parameters {
                    let given = weights.iter().find(|(name, ..)| *name == parameter.name);
                    let (_, dims, values) = given.ok_or_else(|| format!("it has no {}", parameter.name))?;
                    if *dims != parameter.dims || values.len() != size(dims)? {
                        return Err(format!(
                            "its {} is {dims:?}, a {} that reads {:?} has {:?}",
                            parameter.name,
                            layer.kind(),
                            shapes[0].dims,
                            parameter.dims
                        ));
                    }
                }
                built.output
            }
        };
        size(&output.dims)?;
        Ok(self.push(wish, Stage::Layer(layer), reads, output.dims, weights))
    }

    pub fn push(
        &mut self,
        wish: &str,
        stage: Stage,
        reads: Vec<Place>,
        dims: Vec<usize>,
        weights: Vec<Weight>,
    ) -> Place {
        self.all.push(Pending { wish: wish.to_string(), stage, reads, dims, weights });
        Place::Layer(self.all.len() - 1)
    }

    pub fn source(&mut self, source: Source) -> Place {
        self.sources.push(source);
        Place::Source(self.sources.len() - 1)
    }

    /// All values of a layer, as they lie.
    pub fn flow(&self, place: Place) -> Flow {
        Flow { place, view: View::rows(self.dims(place)), scale: 1.0 }
    }

    /// A layer whose values lie in the order in which they are seen, as rows of these dimensions.
    pub fn plain(&mut self, flow: &Flow, dims: &[usize]) -> Result<Place, String> {
        let key = (flow.place, flow.view.clone(), dims.to_vec(), flow.scale.to_bits());
        if let Some(place) = self.settled.get(&key) {
            return Ok(*place);
        }
        let unscaled = self.scaled(flow)?;
        let place = self.ordered(&unscaled, dims)?;
        self.settled.insert(key, place);
        Ok(place)
    }

    fn ordered(&mut self, flow: &Flow, dims: &[usize]) -> Result<Place, String> {
        if !flow.view.batch_first(self.batch) {
            return Err("rows do not come first in what it reads".to_string());
        }
        let parts = flow.view.own_parts();
        let row = size(self.dims(flow.place))?;
        if flow.view.row() != row {
            let part = self.part(flow)?;
            return self.renamed(part, dims);
        }
        if contiguous(&parts) {
            return self.renamed(flow.place, dims);
        }
        let mut order: Vec<usize> = (0..parts.len()).collect();
        order.sort_by_key(|at| std::cmp::Reverse(parts[*at].1));
        let lying: Vec<(usize, usize)> = order.iter().map(|at| parts[*at]).collect();
        if !contiguous(&lying) {
            return Err("it sees some values of a row twice".to_string());
        }
        let lain = self.renamed(flow.place, &lying.iter().map(|(size, _)| *size).collect::<Vec<_>>())?;
        let permuted = (0..parts.len()).map(|at| 1 + order.iter().position(|lies| *lies == at).unwrap_or(0)).collect();
        let permuted = self.emit("permute", Layer::Permute { dims: permuted }, vec![lain], Vec::new())?;
        self.renamed(permuted, dims)
    }

    /// What of a layer's values can be taken apart: the last step of a recurrent layer, columns of an input.
    fn part(&mut self, flow: &Flow) -> Result<Place, String> {
        let parts = flow.view.own_parts();
        match (flow.place, self.layer(flow.place).map(|(layer, pending)| (layer.clone(), pending.clone()))) {
            (_, Some((Layer::Gru { units, sequences: true }, before)))
                if contiguous(&parts)
                    && flow.view.row() == units
                    && flow.view.offset == size(&before.dims)? - units =>
            {
                self.emit(&before.wish, Layer::Gru { units, sequences: false }, before.reads, before.weights)
            }
            (_, Some((Layer::Lstm { units, sequences: true }, before)))
                if contiguous(&parts)
                    && flow.view.row() == units
                    && flow.view.offset == size(&before.dims)? - units =>
            {
                self.emit(&before.wish, Layer::Lstm { units, sequences: false }, before.reads, before.weights)
            }
            (Place::Source(at), _) if !matches!(self.sources[at].reads, Reads::Prepared(_)) => {
                let seen = flow.view.places(MOST_COLUMNS).ok_or("it takes too many columns of an input apart")?;
                let mut source = self.sources[at].clone();
                if let Reads::Numbers(Some((mean, deviation))) = &mut source.reads {
                    *mean = seen.iter().map(|place| mean[*place]).collect();
                    *deviation = seen.iter().map(|place| deviation[*place]).collect();
                }
                source.dims = vec![seen.len()];
                source.places = Some(match &source.places {
                    Some(before) => seen.iter().map(|place| before[*place]).collect(),
                    None => seen,
                });
                Ok(self.source(source))
            }
            _ => Err(
                "it takes a part of a layer's values; only columns of inputs, the last step of a recurrent layer, and \
                      the queries, keys and values of an attention can be taken apart"
                    .to_string(),
            ),
        }
    }

    pub fn renamed(&mut self, place: Place, dims: &[usize]) -> Result<Place, String> {
        if self.dims(place) == dims {
            return Ok(place);
        }
        // Only the last of several matters.
        let place = match self.layer(place) {
            Some((Layer::Reshape { .. } | Layer::Flatten, before)) => before.reads[0],
            _ => place,
        };
        if self.dims(place) == dims {
            return Ok(place);
        }
        let layer = if dims.len() == 1 { Layer::Flatten } else { Layer::Reshape { dims: dims.to_vec() } };
        self.emit(layer.kind(), layer, vec![place], Vec::new())
    }

    /// Over the axis `last`, the others in the order in which they lie.
    pub fn arranged(&mut self, flow: &Flow, last: usize) -> Result<Arranged, String> {
        let mut others: Vec<(usize, usize, usize)> = Vec::new();
        for (axis, parts) in flow.view.axes.iter().enumerate().filter(|(axis, _)| *axis != last) {
            others.extend(parts.iter().filter_map(|part| match part {
                Part::Own { size, stride } => Some((axis, *size, *stride)),
                Part::Batch => None,
            }));
        }
        let mut order: Vec<usize> = (0..others.len()).collect();
        order.sort_by_key(|at| std::cmp::Reverse(others[*at].2));
        let mut dims: Vec<usize> = order.iter().map(|at| others[*at].1).collect();
        dims.push(flow.view.size(last, self.batch));
        if flow.view.axes[last].contains(&Part::Batch) {
            return Err("rows stand where it reads values".to_string());
        }
        let mut counted = 0;
        let mut axes = Vec::with_capacity(flow.view.axes.len());
        for (axis, parts) in flow.view.axes.iter().enumerate() {
            let mut places = Vec::new();
            for part in parts.iter().filter(|_| axis != last) {
                places.push(match part {
                    Part::Batch => None,
                    Part::Own { .. } => {
                        counted += 1;
                        order.iter().position(|at| *at == counted - 1)
                    }
                });
            }
            axes.push(places);
        }
        let mut seen = vec![vec![Part::Batch]];
        seen.extend(order.iter().map(|at| vec![Part::Own { size: others[*at].1, stride: others[*at].2 }]));
        seen.push(flow.view.axes[last].clone());
        let view = View { offset: flow.view.offset, axes: seen };
        let place = if self.heads(flow.place).is_some() {
            if !contiguous(&view.own_parts()) || view.row() != size(self.dims(flow.place))? {
                return Err("it reads the heads of an attention in an order of its own".to_string());
            }
            flow.place
        } else {
            self.plain(&Flow { view, ..flow.clone() }, &dims)?
        };
        Ok(Arranged { place, dims, axes, last })
    }

    /// The same values with the number that they are multiplied with put into the layer that gives them.
    pub fn scaled(&mut self, flow: &Flow) -> Result<Flow, String> {
        if flow.scale == 1.0 {
            return Ok(flow.clone());
        }
        let factor = flow.scale as f32;
        let place = match flow.place {
            Place::Source(at) => {
                let mut source = self.sources[at].clone();
                let len = size(&source.dims)?;
                match &mut source.reads {
                    Reads::Numbers(learned) => {
                        self.budget.take(2 * len)?;
                        let (_, deviation) = learned.get_or_insert_with(|| (vec![0.0; len], vec![1.0; len]));
                        deviation.iter_mut().for_each(|deviation| *deviation /= flow.scale);
                    }
                    _ => return Err("it multiplies an input that is no number".to_string()),
                }
                self.source(source)
            }
            Place::Layer(at) => {
                self.changed(at, &["weight", "bias", "table", "out_weight", "out_bias"], |_, values| {
                    values.iter_mut().for_each(|value| *value *= factor);
                })?
            }
        };
        Ok(Flow { place, view: flow.view.clone(), scale: 1.0 })
    }

    /// A layer like `at`, whose output is linear in these weights, with other weights.
    pub fn changed(
        &mut self,
        at: usize,
        which: &[&str],
        change: impl Fn(&'static str, &mut [f32]),
    ) -> Result<Place, String> {
        let mut layer = self.all[at].clone();
        let is_linear = match &layer.stage {
            Stage::Layer(
                Layer::Dense { activation, .. } | Layer::Conv1d { activation, .. } | Layer::Conv2d { activation, .. },
            ) => *activation == Activation::Linear,
            Stage::Layer(
                Layer::Embedding { .. }
                | Layer::Attention { .. }
                | Layer::LayerNorm { .. }
                | Layer::RmsNorm { .. }
                | Layer::BatchNorm { .. },
            ) => true,
            _ => false,
        };
        if !is_linear {
            return Err("it multiplies or shifts what no weights before it can take up".to_string());
        }
        for (name, _, values) in layer.weights.iter_mut().filter(|(name, ..)| which.contains(name)) {
            self.budget.take(values.len())?;
            let mut changed = values.to_vec();
            change(name, &mut changed);
            *values = Rc::new(changed);
        }
        self.all.push(layer);
        Ok(Place::Layer(self.all.len() - 1))
    }
}

/// Columns of one input that are told apart by place.
const MOST_COLUMNS: usize = 1 << 16;

/// Values of a row.
pub fn size(dims: &[usize]) -> Result<usize, String> {
    let size = dims.iter().try_fold(1usize, |size, dim| size.checked_mul(*dim));
    match size {
        Some(size) if size > 0 && size <= MOST => Ok(size),
        _ => {
            Err(format!("a row of it would be {dims:?}, and that of no layer is empty or has more than {MOST} values"))
        }
    }
}
