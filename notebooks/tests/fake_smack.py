"""Stands for the binary in the tests of `smack.dev()`: it says where it is, and waits for its end."""

from __future__ import annotations

import http.server
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import smack


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        data = json.dumps({"version": smack.__version__, "api": "v1"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


def main(args: list[str]) -> None:
    if args[0] != "dev":
        print(json.dumps({"args": args, "stdin": sys.stdin.read(), "brokers": os.environ.get("SMACK_BROKERS")}))
        sys.exit(3 if "fail" in args else 0)
    if "--fail" in args:
        sys.exit("failed to start: port 1 is in use")
    trace = Path(os.environ["TRACE"])
    here = Path(".smack")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    if "--slow" in args:
        ended.wait()
        return
    here.mkdir(exist_ok=True)
    said = {"pid": os.getpid(), "args": args, "folder": str(Path.cwd()), "environment": sorted(os.environ)}
    trace.write_text(json.dumps(said))
    ready = here / "dev.json.new"
    ready.write_text(json.dumps({"runner": f"http://127.0.0.1:{server.server_address[1]}", "kafka": "127.0.0.1:19092"}))
    ready.rename(here / "dev.json")
    if "--brief" not in args:
        ended.wait()
    trace.with_suffix(".ended").touch()


if __name__ == "__main__":
    main(sys.argv[1:])
