//! What a layer of Keras is here.

use super::Entry;
use super::weights::Named;
use crate::exchange::hdf5::Array;
use jobs::train::{Activation, Combine, Layer, Loss, Padding};
use serde_json::Value;

pub enum Read {
    Layer {
        layer: Layer,
        weights: Vec<Named>,
        /// The loss that its activation is for, which was taken off.
        ends: Option<Loss>,
    },
    /// Values go through as they are.
    Nothing { ends: Option<Loss> },
    /// (value - mean) / deviation of an input.
    Normalized { mean: Vec<f32>, deviation: Vec<f32> },
}

/// What Keras divides by at least.
const LEAST_DEVIATION: f32 = 1e-7;

pub fn read(entry: &Entry<'_>, arrays: Vec<Array>, is_output: bool) -> Result<Read, String> {
    let settings = Settings(entry.config);
    settings.refuse_channels_first()?;
    let mut arrays = Arrays(arrays.into_iter());
    let plain = |layer| Ok(Read::Layer { layer, weights: Vec::new(), ends: None });
    match entry.class {
        "Dense" => {
            let (units, bias) = (settings.size("units")?, settings.yes("use_bias", true));
            let (activation, ends) = settings.activation(is_output.then_some(units))?;
            let mut weights = vec![arrays.take("weight")?];
            if bias {
                weights.push(arrays.take("bias")?);
            }
            Ok(Read::Layer { layer: Layer::Dense { units, activation, bias }, weights, ends })
        }
        "Activation" => match settings.activation(is_output.then_some(usize::MAX))? {
            (Activation::Linear, ends) => Ok(Read::Nothing { ends }),
            (function, _) => plain(Layer::Activation { function }),
        },
        "Softmax" if is_output => Ok(Read::Nothing { ends: Some(Loss::CrossEntropy) }),
        "ReLU" => {
            let plain_relu = settings.number("max_value").is_none()
                && settings.number("negative_slope").unwrap_or(0.0) == 0.0
                && settings.number("threshold").unwrap_or(0.0) == 0.0;
            if !plain_relu {
                return Err("it has a largest value, a slope or a threshold; relu here is max(x, 0)".to_string());
            }
            plain(Layer::Activation { function: Activation::Relu })
        }
        "LeakyReLU" => match settings.number("negative_slope").or(settings.number("alpha")) {
            Some(slope) if (slope - 0.01).abs() < 1e-9 => plain(Layer::Activation { function: Activation::LeakyRelu }),
            slope => Err(format!("its negative_slope is {}; leaky_relu here lets 0.01 through", slope.unwrap_or(0.3))),
        },
        "ELU" => match settings.number("alpha").unwrap_or(1.0) {
            1.0 => plain(Layer::Activation { function: Activation::Elu }),
            alpha => Err(format!("its alpha is {alpha}; that of elu here is 1")),
        },
        "Dropout" => {
            let rate = settings.number("rate").unwrap_or(0.0);
            if rate > 0.0 { plain(Layer::Dropout { rate }) } else { Ok(Read::Nothing { ends: None }) }
        }
        "Embedding" => {
            if settings.yes("mask_zero", false) {
                return Err("it masks id 0 (mask_zero); no layer here is masked".to_string());
            }
            let (vocabulary, units) = (settings.size("input_dim")?, settings.size("output_dim")?);
            let layer = Layer::Embedding { vocabulary, units, combine: Combine::None };
            Ok(Read::Layer { layer, weights: vec![arrays.take("table")?], ends: None })
        }
        "Conv1D" | "Conv2D" => convolution(entry.class, &settings, &mut arrays),
        "MaxPooling1D" | "AveragePooling1D" | "MaxPooling2D" | "AveragePooling2D" => {
            let size = settings.sizes("pool_size")?;
            let stride = settings.sizes("strides").unwrap_or_else(|_| size.clone());
            let two = |sizes: &[usize]| match sizes {
                [one] => Ok([*one; 2]),
                [one, other] => Ok([*one, *other]),
                sizes => Err(format!("its windows are {sizes:?}")),
            };
            let (size, stride, padding) = (two(&size)?, two(&stride)?, settings.padding()?);
            plain(match entry.class.starts_with("Max") {
                true => Layer::MaxPool { size, stride, padding },
                false => Layer::AveragePool { size, stride, padding },
            })
        }
        "GlobalMaxPooling1D" | "GlobalMaxPooling2D" | "GlobalAveragePooling1D" | "GlobalAveragePooling2D" => {
            if settings.yes("keepdims", false) {
                return Err("it keeps dimensions of 1 (keepdims)".to_string());
            }
            plain(match entry.class.starts_with("GlobalMax") {
                true => Layer::GlobalMaxPool,
                false => Layer::GlobalAveragePool,
            })
        }
        "BatchNormalization" => {
            last_axis(entry, &settings)?;
            let epsilon = settings.number("epsilon").unwrap_or(1e-3);
            let layer = Layer::BatchNorm { momentum: settings.number("momentum").unwrap_or(0.99), epsilon };
            let (weight, bias) = scale_and_shift(&settings, &mut arrays)?;
            let (mean, variance) = (arrays.take("mean")?, arrays.take("variance")?);
            let (weight, bias) = (weight.unwrap_or_else(|| same("weight", &mean, 1.0)), bias);
            let bias = bias.unwrap_or_else(|| same("bias", &mean, 0.0));
            Ok(Read::Layer { layer, weights: vec![weight, bias, mean, variance], ends: None })
        }
        "LayerNormalization" => {
            last_axis(entry, &settings)?;
            if settings.yes("rms_scaling", false) {
                return Err("it scales by the root of the mean square (rms_scaling); use RMSNormalization".to_string());
            }
            let layer = Layer::LayerNorm { epsilon: settings.number("epsilon").unwrap_or(1e-3) };
            let (weight, bias) = match scale_and_shift(&settings, &mut arrays)? {
                (Some(weight), bias) => {
                    let bias = bias.unwrap_or_else(|| same("bias", &weight, 0.0));
                    (weight, bias)
                }
                (None, Some(bias)) => (same("weight", &bias, 1.0), bias),
                (None, None) => return Err("it has neither scale nor center; ours has both".to_string()),
            };
            Ok(Read::Layer { layer, weights: vec![weight, bias], ends: None })
        }
        "RMSNormalization" => {
            last_axis(entry, &settings)?;
            let layer = Layer::RmsNorm { epsilon: settings.number("epsilon").unwrap_or(1e-6) };
            Ok(Read::Layer { layer, weights: vec![arrays.take("weight")?], ends: None })
        }
        "LSTM" | "GRU" => recurrent(entry.class, &settings, &mut arrays),
        "MultiHeadAttention" => attention(entry, &settings, &mut arrays),
        "Add" => plain(Layer::Add),
        "Concatenate" => {
            last_axis(entry, &settings)?;
            plain(Layer::Concat)
        }
        "Flatten" => plain(Layer::Flatten),
        "Reshape" => {
            let dims = settings.0["target_shape"].as_array().map(Vec::as_slice).unwrap_or_default();
            let dims: Option<Vec<usize>> = dims.iter().map(|dim| usize::try_from(dim.as_u64()?).ok()).collect();
            plain(Layer::Reshape { dims: dims.ok_or("its target_shape is open")? })
        }
        "Permute" => plain(Layer::Permute { dims: settings.sizes("dims")? }),
        "Normalization" => {
            if settings.yes("invert", false) {
                return Err("it inverts a normalisation".to_string());
            }
            last_axis(entry, &settings)?;
            let of = |name: &str, arrays: &mut Arrays| match settings.numbers(name) {
                Some(numbers) => Ok(numbers),
                None => arrays.take("mean").map(|(_, _, values)| values),
            };
            let (mean, variance) = (of("mean", &mut arrays)?, of("variance", &mut arrays)?);
            let deviation = variance.iter().map(|variance| variance.sqrt().max(LEAST_DEVIATION)).collect();
            Ok(Read::Normalized { mean, deviation })
        }
        "Rescaling" => {
            let scale = settings.number("scale").filter(|scale| *scale != 0.0).ok_or("its scale is no number")?;
            let offset = settings.number("offset").unwrap_or(0.0);
            Ok(Read::Normalized { mean: vec![(-offset / scale) as f32], deviation: vec![(1.0 / scale) as f32] })
        }
        class => Err(format!("no layer here is what '{class}' is")),
    }
}

fn convolution(class: &str, settings: &Settings<'_>, arrays: &mut Arrays) -> Result<Read, String> {
    if settings.number("groups").unwrap_or(1.0) != 1.0 {
        return Err("its channels are in groups; ours in one".to_string());
    }
    if settings.sizes("dilation_rate").is_ok_and(|rates| rates.iter().any(|rate| *rate != 1)) {
        return Err("its windows have gaps (dilation_rate); ours have none".to_string());
    }
    let (filters, kernel, stride) =
        (settings.size("filters")?, settings.sizes("kernel_size")?, settings.sizes("strides")?);
    let padding = settings.padding()?;
    let (activation, _) = settings.activation(None)?;
    let weight = arrays.take("weight")?;
    if weight.1.last() != Some(&filters) {
        return Err(format!("its weights are {:?}, not of {filters} filters", weight.1));
    }
    let bias =
        if settings.yes("use_bias", true) { arrays.take("bias")? } else { ("bias", vec![filters], vec![0.0; filters]) };
    let layer = match (&kernel[..], &stride[..]) {
        ([kernel], [stride]) => Layer::Conv1d { filters, kernel: *kernel, stride: *stride, padding, activation },
        ([height, width], [y, x]) => {
            Layer::Conv2d { filters, kernel: [*height, *width], stride: [*y, *x], padding, activation }
        }
        _ => return Err(format!("the windows of its {class} are {kernel:?}, with steps of {stride:?}")),
    };
    Ok(Read::Layer { layer, weights: vec![weight, bias], ends: None })
}

fn recurrent(class: &str, settings: &Settings<'_>, arrays: &mut Arrays) -> Result<Read, String> {
    for key in ["go_backwards", "stateful", "return_state", "time_major"] {
        if settings.yes(key, false) {
            return Err(format!("it has {key}; ours does not"));
        }
    }
    for (key, expected) in [("activation", "tanh"), ("recurrent_activation", "sigmoid")] {
        if settings.0[key].as_str().unwrap_or(expected) != expected {
            return Err(format!("its {key} is {}; ours is {expected}", settings.0[key]));
        }
    }
    let (units, sequences) = (settings.size("units")?, settings.yes("return_sequences", false));
    let (fed, hidden) = (arrays.take("input_weight")?, arrays.take("hidden_weight")?);
    let bias = settings.yes("use_bias", true);
    if [&fed, &hidden].iter().any(|(_, dims, _)| dims.last().is_none_or(|columns| columns / units < 3)) {
        return Err(format!("its weights are {:?} and {:?}, not those of {units} units", fed.1, hidden.1));
    }
    if class == "LSTM" {
        let bias = if bias { arrays.take("bias")? } else { ("bias", vec![4 * units], vec![0.0; 4 * units]) };
        let layer = Layer::Lstm { units, sequences };
        return Ok(Read::Layer { layer, weights: vec![fed, hidden, bias], ends: None });
    }
    if !settings.yes("reset_after", true) {
        return Err("its reset gate goes before the product (reset_after = false); ours goes behind it".to_string());
    }
    let width = 3 * units;
    let biases = if bias { arrays.take("input_bias")?.2 } else { vec![0.0; 2 * width] };
    if biases.len() != 2 * width || [&fed, &hidden].iter().any(|(_, _, values)| !values.len().is_multiple_of(width)) {
        return Err(format!("its weights are not those of {units} units"));
    }
    // Keras has update, reset, new; ours are reset, update, new.
    let turned = |values: &[f32]| -> Vec<f32> {
        let row = |row: &[f32]| [&row[units..2 * units], &row[..units], &row[2 * units..]].concat();
        values.chunks_exact(width).flat_map(row).collect()
    };
    let weights = vec![
        (fed.0, fed.1, turned(&fed.2)),
        (hidden.0, hidden.1, turned(&hidden.2)),
        ("input_bias", vec![width], turned(&biases[..width])),
        ("hidden_bias", vec![width], turned(&biases[width..])),
    ];
    Ok(Read::Layer { layer: Layer::Gru { units, sequences }, weights, ends: None })
}

fn attention(entry: &Entry<'_>, settings: &Settings<'_>, arrays: &mut Arrays) -> Result<Read, String> {
    let (heads, depth) = (settings.size("num_heads")?, settings.size("key_dim")?);
    if settings.size("value_dim").unwrap_or(depth) != depth {
        return Err("its value_dim is not its key_dim; ours are one".to_string());
    }
    let bias = settings.yes("use_bias", true);
    let width = heads.saturating_mul(depth);
    let mut kernels = Vec::new();
    let mut biases = Vec::new();
    for part in ["query", "key", "value", "output"] {
        let (_, dims, values) = arrays.take("in_weight")?;
        if values.len() != width.saturating_mul(width) {
            return Err(format!("its {part} is {dims:?}; {heads} heads of {depth} keep rows of {width} here"));
        }
        kernels.push(values);
        biases.push(if bias { arrays.take("in_bias")?.2 } else { vec![0.0; width] });
    }
    if biases.iter().any(|bias| bias.len() != width) {
        return Err(format!("its biases are not of {width} values"));
    }
    let mut in_weight = Vec::with_capacity(3 * width * width);
    for row in 0..width {
        kernels[..3].iter().for_each(|kernel| in_weight.extend_from_slice(&kernel[row * width..(row + 1) * width]));
    }
    let out_bias = biases.pop().unwrap_or_default();
    let weights = vec![
        ("in_weight", vec![width, 3 * width], in_weight),
        ("in_bias", vec![3 * width], biases.concat()),
        ("out_weight", vec![width, width], kernels.pop().unwrap_or_default()),
        ("out_bias", vec![width], out_bias),
    ];
    let given = |key: &str| entry.arguments.map(|arguments| &arguments[key]).filter(|value| !value.is_null());
    if given("attention_mask").is_some() {
        return Err("it has a mask of its own; ours are causal or none".to_string());
    }
    let causal = given("use_causal_mask").and_then(Value::as_bool).unwrap_or(false);
    Ok(Read::Layer { layer: Layer::Attention { heads, causal }, weights, ends: None })
}

/// Where the layer has them.
fn scale_and_shift(settings: &Settings<'_>, arrays: &mut Arrays) -> Result<(Option<Named>, Option<Named>), String> {
    let weight = settings.yes("scale", true).then(|| arrays.take("weight")).transpose()?;
    let bias = settings.yes("center", true).then(|| arrays.take("bias")).transpose()?;
    Ok((weight, bias))
}

fn same(name: &'static str, as_: &Named, value: f32) -> Named {
    (name, as_.1.clone(), vec![value; as_.2.len()])
}

fn last_axis(entry: &Entry<'_>, settings: &Settings<'_>) -> Result<(), String> {
    let axis = match &settings.0["axis"] {
        Value::Array(axes) if axes.len() == 1 => axes[0].as_i64(),
        Value::Null => return Ok(()),
        axis => axis.as_i64(),
    };
    let rank = entry.input_dims.as_ref().map(|dims| dims.len() as i64);
    match axis {
        Some(-1) => Ok(()),
        Some(axis) if rank == Some(axis) => Ok(()),
        _ => Err(format!("its axis is {}; ours is the last", settings.0["axis"])),
    }
}

struct Arrays(std::vec::IntoIter<Array>);

impl Arrays {
    fn take(&mut self, name: &'static str) -> Result<Named, String> {
        let array = self.0.next().ok_or_else(|| format!("the file has no array for its {name}"))?;
        Ok((name, array.dims, array.values))
    }
}

struct Settings<'a>(&'a Value);

impl Settings<'_> {
    fn size(&self, key: &str) -> Result<usize, String> {
        let size = self.0[key].as_u64().and_then(|size| usize::try_from(size).ok());
        size.filter(|size| (1..1 << 32).contains(size)).ok_or_else(|| format!("its {key} is {}", self.0[key]))
    }

    fn sizes(&self, key: &str) -> Result<Vec<usize>, String> {
        let value = &self.0[key];
        if value.is_u64() {
            return self.size(key).map(|size| vec![size]);
        }
        let sizes = value.as_array().map(Vec::as_slice).unwrap_or_default();
        let sizes: Option<Vec<usize>> = sizes.iter().map(|size| usize::try_from(size.as_u64()?).ok()).collect();
        let fits = |sizes: &Vec<usize>| !sizes.is_empty() && sizes.iter().all(|size| (1..1 << 32).contains(size));
        sizes.filter(fits).ok_or_else(|| format!("its {key} is {value}"))
    }

    fn number(&self, key: &str) -> Option<f64> {
        self.0[key].as_f64()
    }

    /// One number, or a list of them within lists of one.
    fn numbers(&self, key: &str) -> Option<Vec<f32>> {
        let mut value = &self.0[key];
        while let Value::Array(values) = value
            && let [only @ Value::Array(_)] = &values[..]
        {
            value = only;
        }
        match value {
            Value::Array(values) => values.iter().map(|value| value.as_f64().map(|value| value as f32)).collect(),
            value => value.as_f64().map(|value| vec![value as f32]),
        }
    }

    fn yes(&self, key: &str, default: bool) -> bool {
        self.0[key].as_bool().unwrap_or(default)
    }

    fn padding(&self) -> Result<Padding, String> {
        match self.0["padding"].as_str().unwrap_or("valid") {
            "valid" => Ok(Padding::Valid),
            "same" => Ok(Padding::Same),
            other => Err(format!("its padding is {other}; ours are valid and same")),
        }
    }

    fn refuse_channels_first(&self) -> Result<(), String> {
        match self.0["data_format"].as_str() {
            Some("channels_first") => Err("its channels come first; ours come last".to_string()),
            _ => Ok(()),
        }
    }

    /// `outputs`: how many there are where the model ends here; then what makes probabilities of them is taken off.
    fn activation(&self, outputs: Option<usize>) -> Result<(Activation, Option<Loss>), String> {
        let named = &self.0["activation"];
        let name = named.as_str().or(named["class_name"].as_str()).unwrap_or("linear");
        Ok(match (name, outputs) {
            ("softmax", Some(outputs)) if outputs > 1 => (Activation::Linear, Some(Loss::CrossEntropy)),
            ("sigmoid", Some(1)) => (Activation::Linear, Some(Loss::BinaryCrossEntropy)),
            ("linear", _) => (Activation::Linear, None),
            ("relu", _) => (Activation::Relu, None),
            ("elu", _) => (Activation::Elu, None),
            ("silu" | "swish", _) => (Activation::Silu, None),
            ("tanh", _) => (Activation::Tanh, None),
            ("sigmoid", _) => (Activation::Sigmoid, None),
            ("gelu", _) => (Activation::Gelu, None),
            ("softplus", _) => (Activation::Softplus, None),
            ("leaky_relu", _) => return Err("its leaky_relu lets 0.2 through; that here 0.01".to_string()),
            (other, _) => return Err(format!("its activation is '{other}', which is none of ours")),
        })
    }
}
