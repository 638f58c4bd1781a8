//! Weights of Keras's layers, in the order in which a layer has them.

use crate::exchange::hdf5::{Array, File};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;

/// Name of our parameter, dimensions, values.
pub type Named = (&'static str, Vec<usize>, Vec<f32>);

/// Where weights lie: HDF5 by class and number of the layer, safetensors by its name and a number.
pub enum Store<'a> {
    Hdf5(File<'a>),
    Safetensors(SafeTensors<'a>),
}

/// Layers within layers that have weights, in the order of `get_weights`.
const WITHIN: [&str; 6] = ["", "cell", "query_dense", "key_dense", "value_dense", "output_dense"];
/// No layer has more arrays.
const MOST: usize = 16;

impl<'a> Store<'a> {
    pub fn open(bytes: &'a [u8]) -> Result<Self, String> {
        if bytes.starts_with(b"\x89HDF") {
            return File::open(bytes).map(Self::Hdf5);
        }
        SafeTensors::deserialize(bytes)
            .map(Self::Safetensors)
            .map_err(|error| format!("the weights are neither HDF5 nor safetensors ({error})"))
    }

    pub fn layer(&self, name: &str, class: &str, number: usize) -> Result<Vec<Array>, String> {
        match self {
            Self::Hdf5(file) => {
                let mut called = snake_case(class);
                if number > 0 {
                    called.push_str(&format!("_{number}"));
                }
                let mut arrays = Vec::new();
                for within in WITHIN {
                    for number in 0..MOST {
                        let number = number.to_string();
                        let path = match within {
                            "" => vec!["layers", &called, "vars", &number],
                            within => vec!["layers", &called, within, "vars", &number],
                        };
                        match file.array(&path) {
                            Ok(Some(array)) => arrays.push(array),
                            Ok(None) => break,
                            // A counter or a seed, which no layer of ours has.
                            Err(error) if error.contains("not of float32") => break,
                            Err(error) => return Err(error),
                        }
                    }
                }
                Ok(arrays)
            }
            Self::Safetensors(tensors) => {
                let mut arrays = Vec::new();
                while let Ok(view) = tensors.tensor(&format!("{name}/{}", arrays.len())) {
                    if view.dtype() != Dtype::F32 {
                        return Err(format!("its weights are {:?}; save them as float32", view.dtype()));
                    }
                    arrays.push(Array { dims: view.shape().to_vec(), values: crate::bytes::to_f32(view.data()) });
                }
                Ok(arrays)
            }
        }
    }
}

/// `MaxPooling2D` is `max_pooling2d`, as Keras has it.
fn snake_case(class: &str) -> String {
    let letters: Vec<char> = class.chars().collect();
    let mut name = String::new();
    for (at, letter) in letters.iter().enumerate() {
        let before = at.checked_sub(1).map(|before| letters[before]);
        let behind = letters.get(at + 1).is_some_and(char::is_ascii_lowercase);
        if letter.is_ascii_uppercase() && before.is_some_and(|before| behind || before.is_ascii_lowercase()) {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::snake_case;

    #[test]
    fn classes_are_called_as_in_keras() {
        for (class, expected) in [
            ("Dense", "dense"),
            ("MaxPooling2D", "max_pooling2d"),
            ("GlobalAveragePooling1D", "global_average_pooling1d"),
            ("LSTM", "lstm"),
            ("RMSNormalization", "rms_normalization"),
            ("LeakyReLU", "leaky_re_lu"),
            ("MultiHeadAttention", "multi_head_attention"),
        ] {
            assert_eq!(snake_case(class), expected);
        }
    }
}
