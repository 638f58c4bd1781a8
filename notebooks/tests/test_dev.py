"""A cluster of `smack.dev()` ends with whoever started it, however that ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import smack

# Nothing takes so long unless something is broken.
PATIENCE_S = 60.0


def wait_for(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def is_there(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.fixture
def binary(alone: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRACE", str(alone / "trace"))
    # Also for those that run elsewhere.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(smack.__file__).parent.parent), *sys.path]))
    path = alone / "bin" / "smack"
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).with_name("fake_smack.py")} "$@"\n')
    path.chmod(0o755)
    return path


def trace(folder: Path) -> dict[str, Any]:
    said: dict[str, Any] = json.loads((folder / "trace").read_text())
    return said


def test_it_lives_in_a_folder_of_its_own_and_goes_with_it(binary: Path, alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMACK_RUNNER", "http://elsewhere:1")
    monkeypatch.setenv("SMACK_TOKEN_FILE", "nowhere")
    cluster = smack.dev(binary, agents=3, cpus=1.5, args=["--isolation", "off"])
    said = trace(alone)
    ports = ["--port", "0", "--kafka-port", "0"]
    assert said["args"] == ["dev", *ports, "--agents", "3", "--cpus", "1.5", "--isolation", "off"]
    assert Path(said["folder"]) == cluster.folder and cluster.folder != alone
    assert not {"SMACK_RUNNER", "SMACK_TOKEN_FILE"} & set(said["environment"])
    assert cluster.kafka == "127.0.0.1:19092" and cluster.runner.startswith("http://127.0.0.1:")
    assert cluster.version == smack.__version__
    cluster.close()
    # It was asked to end, and had the time for it.
    assert (alone / "trace.ended").exists()
    assert not is_there(said["pid"]) and not cluster.folder.exists()
    assert "has ended" in repr(cluster)
    cluster.close()


def test_it_ends_with_its_block_and_keeps_a_folder_that_was_given(binary: Path, alone: Path) -> None:
    for _ in range(2):
        with smack.dev(binary, folder="mine") as cluster:
            assert cluster.folder == alone / "mine" and is_there(trace(alone)["pid"])
        assert not is_there(trace(alone)["pid"]) and cluster.folder.exists()


def started(alone: Path, end: str, **options: Any) -> subprocess.Popen[bytes]:
    script = textwrap.dedent(f"""
        import os, signal, threading, smack
        cluster = smack.dev(os.environ["BINARY"])
        {end}
    """)
    environment = os.environ | {"BINARY": str(alone / "bin" / "smack")}
    return subprocess.Popen([sys.executable, "-c", script], env=environment, **options)


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("pass", 0),
        ("raise SystemExit(3)", 3),
        ("os._exit(4)", 4),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
        # A child that ends does not end it.
        ("os.fork() or exit(0); os.wait(); cluster._fitting_version()", 0),
    ],
)
def test_it_ends_with_the_interpreter(binary: Path, alone: Path, end: str, code: int) -> None:
    process = started(alone, end)
    assert process.wait(PATIENCE_S) == code
    said = trace(alone)
    wait_for(lambda: not is_there(said["pid"]))
    wait_for(lambda: not Path(said["folder"]).exists())
    assert (alone / "trace.ended").exists()


def test_it_outlives_the_thread_that_started_it(binary: Path, alone: Path) -> None:
    import threading

    clusters: list[smack.Dev] = []
    thread = threading.Thread(target=lambda: clusters.append(smack.dev(binary)))
    thread.start()
    thread.join(PATIENCE_S)
    assert clusters[0]._fitting_version() == smack.__version__
    clusters[0].close()
    assert not is_there(trace(alone)["pid"])


def test_an_interrupt_of_the_kernels_group_leaves_it_alone(binary: Path, alone: Path) -> None:
    end = "signal.signal(signal.SIGINT, lambda *_: None); open('ready', 'w').close(); signal.pause(); cluster._fitting_version()"
    process = started(alone, end, start_new_session=True)
    wait_for((alone / "ready").exists)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(PATIENCE_S) == 0


def test_one_that_does_not_start_says_why(binary: Path, alone: Path) -> None:
    with pytest.raises(smack.NotStarted, match="`smack dev` did not start: failed to start: port 1 is in use"):
        smack.dev(binary, args=["--fail"])
    with pytest.raises(smack.NotStarted, match=r"is not ready after 0.5 s: it said nothing"):
        smack.dev(binary, args=["--slow"], timeout=0.5)


def test_one_that_ends_by_itself_harms_nobody(binary: Path, alone: Path) -> None:
    process = started(alone, "open('ready', 'w').close(); cluster._process.wait(60); cluster.close()")
    wait_for((alone / "ready").exists)
    os.kill(trace(alone)["pid"], signal.SIGKILL)
    assert process.wait(PATIENCE_S) == 0
    wait_for(lambda: not Path(trace(alone)["folder"]).exists())


def test_the_binary_is_found_or_told_how_to_get(binary: Path, alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(smack.NotStarted, match=r"no program `smack` in PATH: build it .* `cargo build --release`.*SMACK_BIN"):
        smack.dev()
    with pytest.raises(smack.NotStarted, match="'nowhere' is no program"):
        smack.dev("nowhere")
    monkeypatch.setenv("SMACK_BIN", "there")
    with pytest.raises(smack.NotStarted, match="SMACK_BIN, 'there' is no program"):
        smack.dev()
    monkeypatch.setenv("SMACK_BIN", "bin/smack")
    with smack.dev() as cluster:
        assert isinstance(cluster, smack.Dev) and cluster.binary == binary
    monkeypatch.delenv("SMACK_BIN")
    monkeypatch.setenv("PATH", f"{binary.parent}:/usr/bin:/bin")
    with smack.dev():
        pass


def test_the_command_line_runs_in_its_folder(binary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMACK_BROKERS", "others:1")
    with smack.dev(binary) as cluster:
        assert json.loads(cluster.smack("topics", "ls")) == {"args": ["topics", "ls"], "stdin": "", "brokers": None}
        with pytest.raises(smack.SmackError, match="`smack fail` ended with code 3"):
            cluster.smack("fail")
        asked: list[Any] = []
        monkeypatch.setattr(cluster, "smack", lambda *args, stdin: asked.append((args, stdin)))
        assert cluster.produce("t", [{"a": 1, "b": "x\ty"}, {"a": None, "b": "ü"}]) == 2
        assert asked[-1] == (("topics", "produce", "t"), '{"a": 1, "b": "x\\ty"}\n{"a": null, "b": "\\u00fc"}\n')
        cluster.produce("t", [{"k": 7}], key="k")
        assert asked[-1] == (("topics", "produce", "t", "--key-separator", "\t"), '7\t{"k": 7}\n')
        with pytest.raises(ValueError, match="has a tab or the end of a line in it"):
            cluster.produce("t", [{"k": "a\tb"}], key="k")
