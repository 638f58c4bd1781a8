//! What can stand in `inputs` and `layers` of a model. Names and defaults are those of Keras where it has the setting.

use super::{Field, Kind, Shape, Variant, field, required};

pub const ACTIVATIONS: &[&str] =
    &["relu", "leaky_relu", "elu", "silu", "gelu", "tanh", "sigmoid", "softplus", "linear"];
const COMBINES: &[&str] = &["none", "sum", "mean"];
const PADDINGS: &[&str] = &["valid", "same"];

/// More would not fit into any memory.
const MOST: u64 = 1_000_000;
const MOST_IDS: u64 = u32::MAX as u64 - 1;

const NAME: Field = field("name", Kind::Text, None, "what other layers call it; by default its kind and place");
const INPUT: Field =
    field("input", Kind::Names, None, "what it reads: layers or inputs by name; by default the layer before it");
const ACTIVATION: Field = field("activation", Kind::Choice(ACTIVATIONS), Some("relu"), "function of the outputs");
const PADDING: Field = field("padding", Kind::Choice(PADDINGS), Some("valid"), "same: zeros around keep the size");
const SEQUENCES: Field =
    field("sequences", Kind::Boolean, Some("false"), "give the outputs of all steps, not the last");
const CAUSAL: Field = field("causal", Kind::Boolean, Some("false"), "a place sees none that comes after it");
const STRIDE: Field = field("stride", Kind::Sizes, Some("1"), "step of the window");
const POOL_STRIDE: Field = field("stride", Kind::Sizes, None, "step of the window; by default its size");

const fn bare(name: &'static str, doc: &'static str) -> Field {
    field(name, Kind::Boolean, None, doc)
}

const fn variant(name: &'static str, place: &'static str, fields: &'static [Field]) -> Variant {
    Variant { name, bare: false, shape: Shape { place, fields } }
}

const fn bare_variant(name: &'static str, place: &'static str, fields: &'static [Field]) -> Variant {
    Variant { name, bare: true, shape: Shape { place, fields } }
}

pub static LAYERS: &[Variant] = &[
    variant(
        "dense",
        "a dense layer",
        &[
            field("dense", Kind::Whole(1, MOST), None, "fully connected layer with this many outputs"),
            ACTIVATION,
            field("bias", Kind::Boolean, Some("true"), "add a learned number to each output"),
            NAME,
            INPUT,
        ],
    ),
    variant(
        "activation",
        "an activation",
        &[field("activation", Kind::Choice(ACTIVATIONS), None, "a function of each value"), NAME, INPUT],
    ),
    variant(
        "dropout",
        "a dropout layer",
        &[
            field("dropout", Kind::Number(0.0, 0.99), None, "share of the inputs that is dropped while training"),
            NAME,
            INPUT,
        ],
    ),
    variant(
        "embedding",
        "an embedding",
        &[
            field("embedding", Kind::Whole(1, 65_536), None, "learned vectors of this size, looked up by id"),
            field("vocabulary", Kind::Whole(1, MOST_IDS), None, "number of ids; by default that of the input it reads"),
            field("combine", Kind::Choice(COMBINES), Some("none"), "how the vectors of several ids become one"),
            NAME,
            INPUT,
        ],
    ),
    bare_variant(
        "position",
        "a position layer",
        &[bare("position", "adds a learned vector for each place"), NAME, INPUT],
    ),
    variant(
        "conv1d",
        "a conv1d layer",
        &[
            field("conv1d", Kind::Whole(1, MOST), None, "convolution over [length, channels], with this many filters"),
            field("kernel", Kind::Whole(1, MOST), Some("3"), "size of the window"),
            field("stride", Kind::Whole(1, MOST), Some("1"), "step of the window"),
            PADDING,
            ACTIVATION,
            NAME,
            INPUT,
        ],
    ),
    variant(
        "conv2d",
        "a conv2d layer",
        &[
            field(
                "conv2d",
                Kind::Whole(1, MOST),
                None,
                "convolution over [height, width, channels], with this many filters",
            ),
            field("kernel", Kind::Sizes, Some("3"), "size of the window"),
            STRIDE,
            PADDING,
            ACTIVATION,
            NAME,
            INPUT,
        ],
    ),
    variant(
        "max_pool",
        "a max_pool layer",
        &[
            field("max_pool", Kind::Sizes, None, "largest value of each window of this size"),
            POOL_STRIDE,
            PADDING,
            NAME,
            INPUT,
        ],
    ),
    variant(
        "average_pool",
        "an average_pool layer",
        &[
            field("average_pool", Kind::Sizes, None, "mean of each window of this size"),
            POOL_STRIDE,
            PADDING,
            NAME,
            INPUT,
        ],
    ),
    bare_variant(
        "global_max_pool",
        "a global_max_pool layer",
        &[bare("global_max_pool", "largest value of each channel"), NAME, INPUT],
    ),
    bare_variant(
        "global_average_pool",
        "a global_average_pool layer",
        &[bare("global_average_pool", "mean of each channel"), NAME, INPUT],
    ),
    bare_variant(
        "batch_norm",
        "a batch_norm layer",
        &[
            bare("batch_norm", "normalises each channel over the rows of a batch"),
            field("momentum", Kind::Number(0.0, 0.999_999), Some("0.99"), "how slowly the kept mean and variance move"),
            field("epsilon", Kind::Number(1e-12, 1.0), Some("0.001"), "is added to the variance"),
            NAME,
            INPUT,
        ],
    ),
    bare_variant(
        "layer_norm",
        "a layer_norm layer",
        &[
            bare("layer_norm", "normalises over the last dimension"),
            field("epsilon", Kind::Number(1e-12, 1.0), Some("0.001"), "is added to the variance"),
            NAME,
            INPUT,
        ],
    ),
    bare_variant(
        "rms_norm",
        "an rms_norm layer",
        &[
            bare("rms_norm", "divides by the root of the mean square of the last dimension"),
            field("epsilon", Kind::Number(1e-12, 1.0), Some("0.000001"), "is added to the mean square"),
            NAME,
            INPUT,
        ],
    ),
    variant(
        "gru",
        "a gru layer",
        &[
            field("gru", Kind::Whole(1, 65_536), None, "recurrent layer of this size over [length, n]"),
            SEQUENCES,
            NAME,
            INPUT,
        ],
    ),
    variant(
        "lstm",
        "an lstm layer",
        &[
            field("lstm", Kind::Whole(1, 65_536), None, "recurrent layer of this size over [length, n]"),
            SEQUENCES,
            NAME,
            INPUT,
        ],
    ),
    variant(
        "attention",
        "an attention layer",
        &[
            field("attention", Kind::Whole(1, 1_024), None, "self-attention with this many heads over [length, n]"),
            CAUSAL,
            NAME,
            INPUT,
        ],
    ),
    variant(
        "transformer",
        "a transformer layer",
        &[
            field(
                "transformer",
                Kind::Whole(1, 1_024),
                None,
                "attention with this many heads and two dense layers, each with a norm before",
            ),
            required("hidden", Kind::Whole(1, MOST), "outputs of the first of its dense layers"),
            CAUSAL,
            field("activation", Kind::Choice(ACTIVATIONS), Some("gelu"), "between its dense layers"),
            field("dropout", Kind::Number(0.0, 0.99), Some("0"), "of what it adds, while training"),
            NAME,
            INPUT,
        ],
    ),
    variant(
        "add",
        "an add layer",
        &[field("add", Kind::Names, None, "sum of these layers or inputs, of one shape"), NAME],
    ),
    variant(
        "concat",
        "a concat layer",
        &[
            field("concat", Kind::Names, None, "these layers or inputs one after the other, along the last dimension"),
            NAME,
        ],
    ),
    bare_variant("flatten", "a flatten layer", &[bare("flatten", "makes one dimension of all"), NAME, INPUT]),
    variant(
        "reshape",
        "a reshape layer",
        &[field("reshape", Kind::WholeList, None, "the same values in this shape"), NAME, INPUT],
    ),
    variant(
        "permute",
        "a permute layer",
        &[field("permute", Kind::WholeList, None, "the dimensions, from 1, in this order"), NAME, INPUT],
    ),
];

const INPUT_NAME: Field = field("name", Kind::Text, None, "what layers call it; by default its kind");
const COLUMNS: Field =
    field("columns", Kind::Names, None, "columns side by side; by default the features that no other input names");
const DIMS: Field =
    field("dims", Kind::WholeList, None, "shape of a row, for example [28, 28, 1]; by default one dimension");

pub static INPUTS: &[Variant] = &[
    bare_variant(
        "numbers",
        "an input of numbers",
        &[bare("numbers", "numbers as they are; absent ones count as 0"), INPUT_NAME, COLUMNS, DIMS],
    ),
    bare_variant(
        "normalize",
        "a normalize input",
        &[
            bare("normalize", "numbers less their mean, by their deviation; absent ones count as the mean"),
            INPUT_NAME,
            COLUMNS,
            DIMS,
        ],
    ),
    variant(
        "ids",
        "an input of ids",
        &[
            field("ids", Kind::Whole(1, MOST_IDS), None, "whole numbers from 0, of which there are so many"),
            INPUT_NAME,
            COLUMNS,
            DIMS,
        ],
    ),
    variant(
        "hash",
        "a hash input",
        &[
            field("hash", Kind::Whole(2, MOST_IDS), None, "texts or whole numbers, hashed into so many ids"),
            INPUT_NAME,
            COLUMNS,
            DIMS,
        ],
    ),
    variant(
        "vocabulary",
        "a vocabulary input",
        &[
            field(
                "vocabulary",
                Kind::Whole(2, MOST),
                None,
                "ids of the most frequent texts or whole numbers; 0 stands for all others",
            ),
            INPUT_NAME,
            COLUMNS,
            DIMS,
        ],
    ),
    variant(
        "buckets",
        "a buckets input",
        &[
            field("buckets", Kind::Whole(2, 65_536), None, "numbers as ids of so many ranges with equally many rows"),
            INPUT_NAME,
            COLUMNS,
            DIMS,
        ],
    ),
    variant(
        "one_hot",
        "a one_hot input",
        &[
            field("one_hot", Kind::Whole(2, 65_536), None, "as vocabulary, then so many numbers of which one is 1"),
            INPUT_NAME,
            COLUMNS,
            DIMS,
        ],
    ),
];
