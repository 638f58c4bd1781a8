//! The notebook, executed from top to bottom as a reader would; its own assertions judge what comes out.

use crate::cluster::Cluster;
use crate::program::ended;
use crate::python;
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
        print(output.get('text', ''))
";

#[test]
fn the_first_notebook_runs_from_top_to_bottom() {
    let notebooks =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../notebooks").canonicalize().expect("the folder of notebooks");
    let by_hand = "start `smack dev` and execute first.ipynb with nbclient";
    let Some(python) = python::with("notebook", &notebooks.join("requirements.txt"), by_hand) else { return };
    let cluster = Cluster::start();
    let mut execute = Command::new(python);
    execute
        .args(["-c", EXECUTE])
        .arg(notebooks.join("first.ipynb"))
        .arg(&notebooks)
        .env("SMACK_RUNNER", &cluster.runner)
        // Kernels keep their files here, not in the home of whoever runs the tests.
        .env("JUPYTER_RUNTIME_DIR", cluster.path("jupyter"))
        .env("IPYTHONDIR", cluster.path("ipython"))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let ran = ended(execute).expect(0);
    for words in ["agents offer", "finished", "payments in", "steps"] {
        assert!(ran.out.contains(words), "'{words}' is not in:\n{}", ran.out);
    }
}
