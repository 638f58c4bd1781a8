"""What the tests have in common: a runner that answers what a test says, and a folder of its own for each."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import smack

VERSION = {"version": smack.__version__, "api": "v1"}


class Fake:
    """A runner: for each method and path an answer, and what was asked."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], Callable[[Any], Any]] = {}
        self.asked: list[tuple[str, str, Any]] = []
        self.headers: list[dict[str, str]] = []
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                fake.asked.append((self.command, self.path, body))
                fake.headers.append(dict(self.headers))
                answer = fake.answers.get((self.command, self.path.split("?")[0]))
                given = answer(body) if answer else (404, {"error": f"there is nothing at {self.path}"})
                if callable(given):
                    given(self)
                    return
                status, content = given if isinstance(given, tuple) else (200, given)
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = answer  # noqa: N815

            def log_message(self, *_: Any) -> None:
                """Nobody reads it."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=[0.01], daemon=True).start()
        self.on("GET", "/api/v1/version", VERSION)

    def on(self, method: str, path: str, answer: Any) -> None:
        """Says what to answer: JSON, bytes, a status with either, or a function of the body that gives one of these."""
        self.answers[method, path] = answer if callable(answer) else lambda _: answer


@pytest.fixture
def fake() -> Iterator[Fake]:
    fake = Fake()
    yield fake
    fake.server.shutdown()
    fake.server.server_close()


@pytest.fixture
def cluster(fake: Fake) -> smack.Cluster:
    return smack.connect(fake.url)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """In a folder without a cluster, and without what the tester's environment says of one."""
    for name in ("RUNNER", "TOKEN_FILE", "TLS_CA", "TLS_CERT", "TLS_KEY", "BIN"):
        monkeypatch.delenv(f"SMACK_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def arrow_stream(*batches: pa.RecordBatch, end: bool = True) -> list[bytes]:
    """The pieces of an Arrow stream: the schema, each batch, and the end."""
    pieces = [part.serialize().to_pybytes() for part in (batches[0].schema, *batches)]
    return [*pieces, b"\xff\xff\xff\xff\0\0\0\0"] if end else pieces


def chunk(handler: http.server.BaseHTTPRequestHandler, data: bytes) -> None:
    """A piece of an answer whose length nobody knows."""
    handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
    handler.wfile.flush()


def begin_chunks(handler: http.server.BaseHTTPRequestHandler, changes: bool = False) -> None:
    """Such an answer; of a query that takes rows back if `changes`."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/vnd.apache.arrow.stream")
    handler.send_header("Transfer-Encoding", "chunked")
    if changes:
        handler.send_header("x-changes", "true")
    handler.end_headers()


def batch(**columns: Any) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(columns)
