"""A cluster on this machine that lives as long as the interpreter: `smack dev`, in a folder of its own, on free ports.

A shell stands between: it ends the cluster when the pipe from this interpreter closes, which the system does however the
interpreter ends, also by `kill -9`. A signal at the parent's death would follow the thread that started the cluster, and a
cell may run in any.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import address
from .cluster import Cluster
from .errors import NotStarted, SmackError
from .rows import table_of

if TYPE_CHECKING:
    from collections.abc import Sequence

# What is said to others' clusters must not reach this one.
_NOT_OURS = ("RUNNER", "MASTER", "TOKEN_FILE", "TLS_CERT", "TLS_KEY", "TLS_CA", "BROKERS", "TARGET")
_POLL_S = 0.02
# `smack dev` gives its members five seconds.
_END_S = 20.0

# $1 is a folder that goes with the cluster, or nothing; then what to run. Its end by itself ends the one that waits for the pipe
# first, whose process id to end would be another's by then.
_SHELL = """
exec 3<&0 </dev/null
folder=$1
shift
"$@" 3<&- &
cluster=$!
{ read -r _; kill "$cluster"; } <&3 &
pipe=$!
exec 3<&-
wait "$cluster"
code=$?
kill "$pipe" 2>/dev/null
[ "$code" = 0 ] && [ -n "$folder" ] && rm -rf -- "$folder"
exit "$code"
"""


def dev(
    binary: str | os.PathLike[str] | None = None,
    *,
    agents: int = 2,
    cpus: float | None = None,
    folder: str | os.PathLike[str] | None = None,
    args: Sequence[str] = (),
    timeout: float = 120.0,
) -> Dev:
    """Starts a cluster on this machine, with a broker that speaks Kafka's protocol, for as long as this interpreter lives.

    `binary` is the program `smack`; without it $SMACK_BIN, else the one in PATH. The cluster has so many agents with so many
    cpus each (their share of this machine's by default), and lives in a folder that goes with it, unless `folder` is given: a
    cluster that is started there again goes on with what was there. `args` are further arguments of `smack dev`.
    """
    return Dev(_binary(binary), agents, cpus, Path(folder).absolute() if folder else None, args, timeout)


class Dev(Cluster):
    """A cluster that ends with this interpreter, with `close()`, or with the `with` that it stands in."""

    def __init__(self, binary: Path, agents: int, cpus: float | None, folder: Path | None, args: Sequence[str], timeout: float):
        self.binary = binary
        self._temporary = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="smack-"))
        # Others that are forked off this one end without the cluster.
        self._owner = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._start(agents, cpus, args, timeout)
            # What its own command line has to show, and this client.
            token_file = self.folder / args[args.index("--token-file") + 1] if "--token-file" in args else None
            at = address.of_dev(self.folder, token_file)
            shown = {"SMACK_TOKEN_FILE": token_file, "SMACK_TLS_CA": at.tls_ca}
            self._shown = {name: str(path) for name, path in shown.items() if path is not None}
            super().__init__(at)
        except BaseException:
            self.close()
            raise

    @property
    def kafka(self) -> str | None:
        """Where its broker is, `host:port`."""
        return address.of_folder(self.folder).get("kafka")

    def _start(self, agents: int, cpus: float | None, args: Sequence[str], timeout: float) -> None:
        command = [str(self.binary), "dev", "--port", "0", "--kafka-port", "0", "--agents", str(agents)]
        command += ["--cpus", str(cpus)] if cpus is not None else []
        environment = _environment()
        # A laptop may stand still for a while, which says nothing of its agents.
        environment.setdefault("SMACK_AGENT_TIMEOUT", "60s")
        word = self.folder / ".smack" / "dev.json"
        before = _stamp(word)
        with (self.folder / "dev.log").open("wb") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _SHELL, "smack-dev", str(self.folder) if self._temporary else "", *command, *args],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                # An interrupted cell interrupts what is in the kernel's group.
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout
        # Written last: whoever finds it finds a cluster that answers.
        while _stamp(word) in (None, before):
            if self._process.poll() is not None:
                raise NotStarted(f"`smack dev` did not start: {self._last_words()}")
            if time.monotonic() > deadline:
                raise NotStarted(f"`smack dev` is not ready after {timeout:g} s: {self._last_words()}")
            time.sleep(_POLL_S)

    def _last_words(self) -> str:
        words = self.log().strip().splitlines()
        return words[-1] if words else "it said nothing"

    def log(self) -> str:
        """What `smack dev` itself said; its members' logs lie in `folder/.smack`."""
        try:
            return (self.folder / "dev.log").read_text(errors="replace")
        except OSError:
            return ""

    def smack(self, *args: str, stdin: str | None = None, timeout: float = 120.0) -> str:
        """The command line, in the cluster's folder, for example `cluster.smack("topics", "ls")`; returns what it prints."""
        ran = subprocess.run(
            [str(self.binary), *args],
            cwd=self.folder,
            env=_environment() | self._shown,
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if ran.returncode != 0:
            raise SmackError(ran.stderr.strip() or f"`smack {' '.join(args)}` ended with code {ran.returncode}")
        return ran.stdout

    def produce(self, topic: str, rows: Any, key: str | None = None) -> int:
        """Sends rows into a topic of the cluster's broker, as JSON, in their order; returns how many.

        `rows` as `predict` takes them; `key` is the column that is also the records' key, so that equal ones share a partition.
        A topic that is not there is made, with one partition; `smack("topics", "create", …)` makes others.
        """
        lines = []
        for row in table_of(rows).to_pylist():
            line = json.dumps(row, default=_json)
            lines.append(line if key is None else f"{_key(row[key])}\t{line}")
        self.smack("topics", "produce", topic, *(["--key-separator", "\t"] if key else []), stdin="\n".join(lines) + "\n")
        return len(lines)

    def close(self) -> None:
        """Ends the cluster and waits until it has ended; its folder goes, too, unless it was given."""
        if os.getpid() != self._owner:
            return
        atexit.unregister(self.close)
        self.forget()
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                # Its members end with it.
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __repr__(self) -> str:
        if self._process is None:
            return "smack dev, which has ended"
        return f"{super().__repr__()}, in {self.folder}"


def _binary(said: str | os.PathLike[str] | None) -> Path:
    variable = os.environ.get("SMACK_BIN")
    name = os.fspath(said) if said is not None else variable or "smack"
    found = shutil.which(name)
    if found is not None:
        return Path(found).absolute()
    if said is not None or variable:
        of = "" if said is not None else "SMACK_BIN, "
        raise NotStarted(f"{of}'{name}' is no program that can be run; it should be the binary `smack`")
    raise NotStarted(
        "there is no program `smack` in PATH: build it in the sources of smack with `cargo build --release`, and say where it "
        "is: smack.dev('target/release/smack'), or the variable SMACK_BIN"
    )


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in {f"SMACK_{it}" for it in _NOT_OURS}}


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        of = path.stat()
    except OSError:
        return None
    return (of.st_ino, of.st_mtime_ns) if of.st_size else None


def _json(value: Any) -> str:
    """Values that JSON has no form for, as the sources of the cluster read them."""
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    if isinstance(value, (bytes, bytearray)):
        return value.hex()
    return str(value)


def _key(value: Any) -> str:
    text = str(value)
    if "\t" in text or "\n" in text:
        raise ValueError(f"key {text!r} has a tab or the end of a line in it, which stand between records here")
    return text
