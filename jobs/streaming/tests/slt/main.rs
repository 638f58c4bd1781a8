//! SQL by example: every query of `cases/*.slt` with the rows that it must give, as a batch, as a stream at two
//! parallelisms, and as a stream that stops in the middle and goes on from its checkpoint, with memory for its state and
//! without, and with aggregations in two phases.
//!
//! `SMACK_REGENERATE=1` writes the batch's answers into the files; `SMACK_SEED=17` cuts batches at other places;
//! `SMACK_SLT_DATA=DIR` writes the tables there for another engine to read, and runs nothing. A word on the command line runs
//! the files and modes with it in their name: `cargo test -p streaming --test slt joins`.

mod answer;
mod cut;
mod data;
mod looked;
mod modes;
mod random;

use answer::Kind;
use modes::{Database, MODES, Mode, World};
use sqllogictest::harness::{Arguments, Failed, Trial, run};
use sqllogictest::{
    Record, RecordOutput, Runner, StatementExpect, default_normalizer, default_validator, parse_file,
    strict_column_validator,
};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};

const FEWEST_CASES: usize = 300;
const FEWEST_CHAINS: u64 = 100;

/// Cases that ran, parallel to [`MODES`].
static RAN: LazyLock<Vec<AtomicUsize>> = LazyLock::new(|| MODES.iter().map(|_| AtomicUsize::new(0)).collect());

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments = Arguments::from_args();
    if let Some(folder) = std::env::var_os("SMACK_SLT_DATA") {
        data::write(Path::new(&folder))?;
        return Ok(ExitCode::SUCCESS);
    }
    let seed = std::env::var("SMACK_SEED").ok().map(|seed| seed.parse()).transpose()?.unwrap_or(0);
    let world = Arc::new(World::new(seed)?);
    let files = files()?;
    if std::env::var_os("SMACK_REGENERATE").is_some() {
        return regenerate(&files, &world).map(|()| ExitCode::SUCCESS);
    }
    let mut trials = Vec::new();
    for file in &files {
        for mode in MODES {
            let (file, world) = (file.clone(), Arc::clone(&world));
            let name = file.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            let name = format!("{name}::{}", mode.name());
            trials.push(Trial::test(name, move || check(&file, mode, &world)));
        }
    }
    let whole = arguments.filter.is_none() && arguments.skip.is_empty() && !arguments.list;
    let conclusion = run(&arguments, trials);
    for (mode, ran) in MODES.iter().zip(RAN.iter()) {
        println!("{:>5} cases ran as {}", ran.load(Relaxed), mode.name());
    }
    if let Some((mode, ran)) = MODES.iter().zip(RAN.iter()).find(|(_, ran)| whole && ran.load(Relaxed) < FEWEST_CASES) {
        return Err(format!("{} cases of {}, and {FEWEST_CASES} are the least", ran.load(Relaxed), mode.name()).into());
    }
    let n_chains = world.n_chains.load(Relaxed);
    println!("{n_chains:>5} states were a base and changes");
    if whole && n_chains < FEWEST_CHAINS {
        return Err(format!("{n_chains} states were a base and changes, and {FEWEST_CHAINS} are the least").into());
    }
    Ok(conclusion.exit_code())
}

fn files() -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slt/cases");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        files.push(entry?.path());
    }
    files.retain(|path| path.extension().is_some_and(|extension| extension == "slt"));
    files.sort();
    Ok(files)
}

fn runner(
    mode: Mode,
    world: &Arc<World>,
) -> Runner<Database, impl sqllogictest::MakeConnection<Conn = Database> + use<>> {
    let world = Arc::clone(world);
    let mut runner = Runner::new(move || std::future::ready(Ok(Database::new(&world, mode))));
    runner.with_column_validator(strict_column_validator);
    runner
}

/// All mistakes of a file, not the first alone.
fn check(file: &Path, mode: Mode, world: &Arc<World>) -> Result<(), Failed> {
    let mut runner = runner(mode, world);
    let mut failures = Vec::new();
    for record in parse_file::<Kind>(file)? {
        let is_case =
            matches!(&record, Record::Query { .. } | Record::Statement { expected: StatementExpect::Error(_), .. });
        let result = runner.run(record);
        let skipped = matches!(result, Ok(RecordOutput::Nothing));
        if is_case && !skipped {
            for (_, ran) in MODES.iter().zip(RAN.iter()).filter(|(of, _)| **of == mode) {
                ran.fetch_add(1, Relaxed);
            }
        }
        failures.extend(result.err().map(|error| error.display(false).to_string()));
    }
    if failures.is_empty() {
        return Ok(());
    }
    Err(format!("{} failed:\n\n{}", failures.len(), failures.join("\n\n")).into())
}

fn regenerate(files: &[PathBuf], world: &Arc<World>) -> Result<(), Box<dyn Error>> {
    for file in files {
        let mut runner = runner(Mode::Batch, world);
        let written =
            runner.update_test_file(file, " ", default_validator, default_normalizer, strict_column_validator);
        futures::executor::block_on(written)?;
        println!("{} holds the batch answers", file.display());
    }
    Ok(())
}
