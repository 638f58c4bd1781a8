//! The first notebook, executed from top to bottom as a reader would; its own assertions judge what comes out. All of them,
//! and the package that they use as pip installs it, are run by `tests/notebooks/run`.

use crate::cluster::Turn;
use crate::program::{command, ended};
use crate::python;
use crate::wait::wait_for;
use std::path::Path;
use std::process::Command;

const EXECUTE: &str = "
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=300, resources={'metadata': {'path': sys.argv[2]}}).execute()
cells = [cell for cell in notebook.cells if cell.cell_type == 'code']
assert cells and all(cell.execution_count for cell in cells)
for cell in cells:
    for output in cell.outputs:
        print(output.get('text', ''), list(output.get('data', {})))
";

#[test]
fn the_first_notebook_runs_from_top_to_bottom() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the root");
    let notebooks = root.join("notebooks");
    let requirements = root.join("tests/notebooks/requirements.txt");
    let Some(python) = python::with("notebook", &requirements, "and run tests/notebooks/run") else { return };
    let _turn = Turn::take();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clusters = folder.path().join("clusters");
    std::fs::create_dir(&clusters).expect("a folder");
    let mut execute = Command::new(python);
    execute
        .args(["-c", EXECUTE])
        .arg(notebooks.join("01_stream.ipynb"))
        .arg(&notebooks)
        .env("SMACK_BIN", command(folder.path(), &[]).get_program())
        .env("TMPDIR", &clusters)
        // Kernels and their libraries keep their files here, not in the home of whoever runs the tests.
        .env("JUPYTER_RUNTIME_DIR", folder.path().join("jupyter"))
        .env("IPYTHONDIR", folder.path().join("ipython"))
        .env("MPLCONFIGDIR", folder.path().join("matplotlib"))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let ran = ended(execute).expect(0);
    for words in ["rows that stand", "image/png", "text/html"] {
        assert!(ran.out.contains(words), "'{words}' is not in:\n{}", ran.out);
    }
    // It ended with the notebook, and its folder with it.
    wait_for("end of the notebook's cluster", || {
        let left = std::fs::read_dir(&clusters).map_err(|error| error.to_string())?;
        let left: Vec<_> = left.flatten().map(|entry| entry.file_name()).collect();
        if left.iter().any(|name| name.to_string_lossy().starts_with("smack-")) {
            return Err(format!("{left:?}"));
        }
        Ok(())
    });
}
