//! Models out to other programs, and theirs in. Files are read and written here; the registry gets and gives versions in a form
//! of its own.

use super::super::exit::{BAD_INPUT, FAILED, Fail, Result};
use super::super::output::Output;
use crate::server::owner::chain;
use clap::{Args, ValueEnum};
use jobs::train::Loss;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use training::exchange::{self, Settings, onnx};

#[derive(Clone, Debug, Args)]
pub struct ImportArgs {
    /// An ONNX file, or of Keras a .keras file or the JSON of its layers.
    pub file: PathBuf,
    /// The model that it becomes a version of.
    #[arg(long = "as", value_name = "NAME")]
    pub name: String,
    /// The weights of a Keras model of which FILE has the layers only: .weights.h5 or .safetensors.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// What the output is; by default what the model ends in: a sigmoid, a softmax, one number or several.
    #[arg(long, value_enum)]
    task: Option<Task>,
    /// The column that further training learns.
    #[arg(long)]
    label: Option<String>,
    /// Columns of an input: one for each of its values, or one that holds lists. By default INPUT_0, INPUT_1 and so on, and
    /// INPUT for lists of several dimensions. Once for each input.
    #[arg(long, value_name = "[INPUT=]COLUMN,…")]
    columns: Vec<String>,
    /// The tensor of an ONNX file that answers; by default its first output.
    #[arg(long, value_name = "NAME")]
    tensor: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Task {
    Binary,
    Classes,
    Regression,
}

impl Task {
    fn loss(self) -> Loss {
        match self {
            Self::Binary => Loss::BinaryCrossEntropy,
            Self::Classes => Loss::CrossEntropy,
            Self::Regression => Loss::MeanSquaredError,
        }
    }
}

/// What is sent to the registry.
pub fn import(args: &ImportArgs) -> Result<Vec<u8>> {
    let failed = |error: exchange::Error| {
        Fail::new(BAD_INPUT, format!("failed to import {}: {}", args.file.display(), chain(&error)))
    };
    let mut columns = BTreeMap::new();
    for given in &args.columns {
        let (input, names) = given.split_once('=').unwrap_or(("", given));
        let names: Vec<String> = names.split(',').map(|name| name.trim().to_string()).collect();
        if names.contains(&String::new()) || columns.insert(input.trim().to_string(), names).is_some() {
            return Err(Fail::new(
                BAD_INPUT,
                format!("--columns '{given}': it is INPUT=COLUMN,COLUMN… for each input once"),
            ));
        }
    }
    let network = exchange::read(&args.file, args.weights.as_deref(), args.tensor.as_deref()).map_err(failed)?;
    let file = args.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let settings = Settings {
        model: args.name.clone(),
        origin: format!("import of {file}"),
        loss: args.task.map(Task::loss),
        label: args.label.clone(),
        columns,
    };
    network.packed(&settings).map_err(failed)
}

pub fn export(output: Output, package: &[u8], to: &Path, prepared: bool) -> Result<()> {
    let failed = |error: exchange::Error| Fail::new(FAILED, format!("failed to {}", chain(&error)));
    let package = exchange::unpack(package).map_err(failed)?;
    let reads = if prepared { onnx::Inputs::Prepared } else { onnx::Inputs::Raw };
    let bytes = onnx::export(&package.manifest, &package.graph, reads).map_err(failed)?;
    std::fs::write(to, &bytes)
        .map_err(|error| Fail::new(FAILED, format!("failed to write {}: {error}", to.display())))?;
    output.progress(&format!(
        "wrote version {} of {} to {} ({} bytes)",
        package.manifest.version,
        package.manifest.model,
        to.display(),
        bytes.len()
    ));
    Ok(())
}
