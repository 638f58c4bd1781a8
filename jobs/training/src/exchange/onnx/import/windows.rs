//! Convolutions, pools and norms over channels: ONNX has these behind the rows, ours are last.

use super::super::constant::axis;
use super::super::flow::{Flow, Weight};
use super::super::view::{Part, View};
use super::{Importer, Operator, Value};
use crate::graph::ops::Axis;
use jobs::train::{Activation, Layer, Padding};
use std::rc::Rc;

impl Importer<'_> {
    /// What an operator reads as rows whose channels are last, and its dimensions so.
    fn channels_last(&mut self, flow: &Flow) -> Result<(super::super::flow::Place, Vec<usize>), String> {
        let rank = flow.view.axes.len();
        if rank < 2 {
            return Err("it reads rows without channels".to_string());
        }
        let order: Vec<usize> = std::iter::once(0).chain(2..rank).chain([1]).collect();
        let view = flow.view.transposed(&order).ok_or("its shapes do not fit")?;
        let sizes = view.sizes(self.layers.batch);
        if view.axes[0] != [Part::Batch] && self.layers.batch != 1 {
            return Err(format!("its first dimension, {}, is not that of the rows", sizes[0]));
        }
        let dims = sizes[1..].to_vec();
        Ok((self.layers.plain(&Flow { view, ..flow.clone() }, &dims)?, dims))
    }

    /// Rows whose channels are last as ONNX sees them.
    fn channels_first(&self, place: super::super::flow::Place) -> Flow {
        let view = View::rows(self.layers.dims(place));
        let rank = view.axes.len();
        let order: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
        let view = view.transposed(&order).unwrap_or(view);
        Flow { place, view, scale: 1.0 }
    }

    pub fn convolution(&mut self, operator: &Operator<'_>) -> Result<Value, String> {
        let flow = operator.flow(0)?.clone();
        let weight = operator.constant(1)?;
        let attributes = operator.attributes;
        let [filters, channels, ref kernel @ ..] = weight.dims[..] else {
            return Err(format!("its weights are {:?}", weight.dims));
        };
        let kernel = kernel.to_vec();
        let (place, dims) = self.channels_last(&flow)?;
        if dims.len() != kernel.len() + 1 {
            return Err(format!("its weights are {:?}, and it reads rows of {dims:?}", weight.dims));
        }
        if attributes.whole("group", 1) != 1 {
            return Err(format!("its channels are in {} groups; ours in one", attributes.whole("group", 1)));
        }
        if attributes.wholes("dilations").is_some_and(|dilations| dilations.iter().any(|dilation| *dilation != 1)) {
            return Err("its windows have gaps (dilations); ours have none".to_string());
        }
        if channels != dims[dims.len() - 1] {
            return Err(format!("its weights are {:?}, and it reads {} channels", weight.dims, dims[dims.len() - 1]));
        }
        let (stride, padding) = self.windows(operator, &dims[..kernel.len()], &kernel)?;
        let places: usize = kernel.iter().product();
        let values = weight.weights(&mut self.layers.budget)?;
        self.layers.budget.take(values.len())?;
        let mut turned = vec![0.0; values.len()];
        for (filter, of_filter) in values.chunks_exact((channels * places).max(1)).enumerate() {
            for (channel, of_channel) in of_filter.chunks_exact(places.max(1)).enumerate() {
                for (place, value) in of_channel.iter().enumerate() {
                    turned[(place * channels + channel) * filters + filter] = *value;
                }
            }
        }
        let bias = match operator.optional(2)? {
            Some(bias) => bias.weights(&mut self.layers.budget)?,
            None => Rc::new(vec![0.0; filters]),
        };
        let weights: Vec<Weight> = vec![
            ("weight", [&kernel[..], &[channels, filters]].concat(), Rc::new(turned)),
            ("bias", vec![bias.len()], bias),
        ];
        let activation = Activation::Linear;
        let layer = match (&kernel[..], &stride[..]) {
            ([kernel], [stride]) => Layer::Conv1d { filters, kernel: *kernel, stride: *stride, padding, activation },
            ([height, width], [y, x]) => {
                Layer::Conv2d { filters, kernel: [*height, *width], stride: [*y, *x], padding, activation }
            }
            _ => return Err(format!("it convolves over {} dimensions; ours over one or two", kernel.len())),
        };
        let place = self.layers.emit(&operator.wish, layer, vec![place], weights)?;
        Ok(Value::Flow(self.channels_first(place)))
    }

    pub fn pool(&mut self, operator: &Operator<'_>) -> Result<Value, String> {
        let flow = operator.flow(0)?.clone();
        let attributes = operator.attributes;
        let size = sizes(attributes.wholes("kernel_shape").ok_or("it lacks kernel_shape")?)?;
        let (place, dims) = self.channels_last(&flow)?;
        if dims.len() != size.len() + 1 {
            return Err(format!("its windows are {size:?}, and it reads rows of {dims:?}"));
        }
        if attributes.wholes("dilations").is_some_and(|dilations| dilations.iter().any(|dilation| *dilation != 1)) {
            return Err("its windows have gaps (dilations); ours have none".to_string());
        }
        let (stride, padding) = self.windows(operator, &dims[..size.len()], &size)?;
        if operator.op == "AveragePool" && padding == Padding::Same && attributes.whole("count_include_pad", 0) != 0 {
            return Err("it counts the zeros around for a mean (count_include_pad); ours does not".to_string());
        }
        let (size, stride) = match (&size[..], &stride[..]) {
            ([size], [stride]) => ([*size; 2], [*stride; 2]),
            ([height, width], [y, x]) => ([*height, *width], [*y, *x]),
            _ => return Err(format!("it pools over {} dimensions; ours over one or two", size.len())),
        };
        let layer = match operator.op {
            "MaxPool" => Layer::MaxPool { size, stride, padding },
            _ => Layer::AveragePool { size, stride, padding },
        };
        let place = self.layers.emit(&operator.wish, layer, vec![place], Vec::new())?;
        Ok(Value::Flow(self.channels_first(place)))
    }

    /// Steps of the windows, and which of our paddings they have.
    fn windows(
        &mut self,
        operator: &Operator<'_>,
        dims: &[usize],
        size: &[usize],
    ) -> Result<(Vec<usize>, Padding), String> {
        let attributes = operator.attributes;
        let n = dims.len();
        let stride = sizes(attributes.wholes("strides").unwrap_or(&vec![1; n]))?;
        if stride.len() != n || size.len() != n {
            return Err(format!("its strides are {stride:?} over {n} dimensions"));
        }
        let axes = |padding| -> Result<Vec<Axis>, String> {
            let of = |at: usize| Axis::new("dimension", dims[at], size[at], stride[at], padding);
            (0..n).map(of).collect()
        };
        match attributes.text("auto_pad").unwrap_or("NOTSET") {
            "SAME_UPPER" => return axes(Padding::Same).map(|_| (stride.clone(), Padding::Same)),
            "VALID" => return axes(Padding::Valid).map(|_| (stride.clone(), Padding::Valid)),
            "NOTSET" => {}
            other => return Err(format!("its padding is {other}; ours has more zeros behind than before")),
        }
        let pads = match attributes.wholes("pads") {
            Some(pads) => pads.iter().map(|pad| usize::try_from(*pad).map_err(|_| "its pads are below zero")).collect(),
            None => Ok(vec![0; 2 * n]),
        }?;
        if pads.len() != 2 * n {
            return Err(format!("its pads are {pads:?} over {n} dimensions"));
        }
        let ceil = attributes.whole("ceil_mode", 0) != 0;
        for padding in [Padding::Valid, Padding::Same] {
            let Ok(axes) = axes(padding) else { continue };
            let same = axes.iter().enumerate().all(|(at, axis)| {
                let (before, behind) = (pads[at], pads[n + at]);
                let room = dims[at].saturating_add(before).saturating_add(behind).saturating_sub(size[at]);
                let windows = 1 + if ceil { room.div_ceil(stride[at]) } else { room / stride[at] };
                axis.padding().0 == before && axis.windows == windows
            });
            if same {
                return Ok((stride, padding));
            }
        }
        Err(format!(
            "its pads are {pads:?}, for windows of {size:?} with steps of {stride:?} over {dims:?}; ours are none, or those of \
             'same', with more zeros behind than before"
        ))
    }

    /// The largest or the mean of everything but the channels.
    pub fn over_places(
        &mut self,
        wish: &str,
        flow: &Flow,
        axes: &[usize],
        largest: bool,
        keeps: bool,
    ) -> Result<Value, String> {
        let batch = self.layers.batch;
        let sizes = flow.view.sizes(batch);
        let own: Vec<usize> = (0..sizes.len()).filter(|axis| !flow.view.axes[*axis].contains(&Part::Batch)).collect();
        let kept: Vec<usize> = own.iter().copied().filter(|axis| !axes.contains(axis)).collect();
        let [channels] = kept[..] else {
            return Err(format!(
                "it goes over the dimensions {axes:?} of {sizes:?}; ours over all but rows and channels"
            ));
        };
        let arranged = self.layers.arranged(flow, channels)?;
        let layer = if largest { Layer::GlobalMaxPool } else { Layer::GlobalAveragePool };
        let place = self.layers.emit(wish, layer, vec![arranged.place], Vec::new())?;
        let sizes = (0..sizes.len())
            .filter(|axis| keeps || !axes.contains(axis))
            .map(|axis| if axes.contains(&axis) { 1 } else { sizes[axis] });
        let sizes: Vec<usize> = sizes.collect();
        let flow = self.layers.flow(place);
        super::operators::seen(&flow, flow.view.reshaped(&sizes, batch))
    }

    pub fn batch_norm(&mut self, operator: &Operator<'_>) -> Result<Value, String> {
        let flow = operator.flow(0)?.clone();
        if operator.attributes.whole("training_mode", 0) != 0 {
            return Err("it is in training mode; export the model for inference".to_string());
        }
        let (place, dims) = self.channels_last(&flow)?;
        let channels = dims[dims.len() - 1];
        let mut weights: Vec<Weight> = Vec::new();
        for (at, name) in (1..).zip(["weight", "bias", "mean", "variance"]) {
            let constant = operator.constant(at)?;
            if constant.size() != channels {
                return Err(format!("its {name} is {:?}, and it reads {channels} channels", constant.dims));
            }
            weights.push((name, vec![channels], constant.weights(&mut self.layers.budget)?));
        }
        let number = |name: &str, default: f32| {
            // As a text of few digits, so that 0.1 stays 0.1.
            operator.attributes.real(name, default).to_string().parse::<f64>().unwrap_or(f64::from(default))
        };
        let momentum = number("momentum", 0.9);
        let momentum = if (0.0..1.0).contains(&momentum) { momentum } else { 0.9 };
        let layer = Layer::BatchNorm { momentum, epsilon: number("epsilon", 1e-5) };
        let place = self.layers.emit(&operator.wish, layer, vec![place], weights)?;
        Ok(Value::Flow(self.channels_first(place)))
    }

    /// Over the last dimension.
    pub fn norm(&mut self, operator: &Operator<'_>) -> Result<Value, String> {
        let flow = operator.flow(0)?.clone();
        let last = flow.view.axes.len() - 1;
        if axis(operator.attributes.whole("axis", -1), last + 1)? != last {
            return Err("it normalises over more than the last dimension".to_string());
        }
        let epsilon = operator.attributes.real("epsilon", 1e-5).to_string().parse::<f64>().unwrap_or(1e-5);
        let weight = operator.constant(1)?;
        if operator.op == "RMSNormalization" {
            return self.rms_norm(&operator.wish, &flow, epsilon, weight);
        }
        let arranged = self.layers.arranged(&flow, last)?;
        let width = arranged.dims.last().copied().unwrap_or(0);
        let bias = match operator.optional(2)? {
            Some(bias) => bias.weights(&mut self.layers.budget)?,
            None => Rc::new(vec![0.0; width]),
        };
        let weight = weight.weights(&mut self.layers.budget)?;
        let weights: Vec<Weight> = vec![("weight", vec![weight.len()], weight), ("bias", vec![bias.len()], bias)];
        let place = self.layers.emit(&operator.wish, Layer::LayerNorm { epsilon }, vec![arranged.place], weights)?;
        Ok(Value::Flow(Flow { place, view: arranged.back(width), scale: 1.0 }))
    }
}

fn sizes(values: &[i64]) -> Result<Vec<usize>, String> {
    let size = |value: &i64| usize::try_from(*value).ok().filter(|size| *size > 0);
    values.iter().map(size).collect::<Option<_>>().ok_or_else(|| format!("{values:?} are no sizes of windows"))
}
