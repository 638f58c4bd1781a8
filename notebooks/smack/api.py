"""The runner's HTTP API: JSON, and answers that are read as they come.

Each call has a connection of its own, so calls may be made from any number of threads. A proxy for the world outside is never
asked: the cluster is near.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
import urllib.parse
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from .address import Address
from .errors import Diagnostic, Refused, SmackError, Unreachable

# For an answer that the runner has only to look up; planning a large file is the slowest of these.
PATIENCE_S = 60.0
_CONNECT_S = 10.0


@dataclass(frozen=True)
class Text:
    """What a person wrote, for messages about it."""

    text: str
    file: str


class Body:
    """An answer as it comes; a file for whoever reads it. Closed, the runner hears that nobody wants the rest."""

    def __init__(self, connection: http.client.HTTPConnection, wire: socket.socket, response: http.client.HTTPResponse):
        self._connection = connection
        self._wire = wire
        self._response = response
        self._reading = threading.Lock()
        self.closed = False

    def header(self, name: str) -> str | None:
        return self._response.getheader(name)

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def read(self, size: int = -1) -> bytes:
        try:
            with self._reading:
                return self._response.read() if size < 0 else self._response.read(size)
        finally:
            if self.closed:
                self._let_go()

    def patience(self, seconds: float | None) -> None:
        """How long a read waits for the next bytes; after that it is a `TimeoutError`."""
        self._wire.settimeout(seconds)

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        # Another thread that waits for more is woken by that, and lets go itself; its answer must not go under its hands.
        with contextlib.suppress(OSError):
            self._wire.shutdown(socket.SHUT_RDWR)
        if self._reading.acquire(blocking=False):
            try:
                self._let_go()
            finally:
                self._reading.release()

    def _let_go(self) -> None:
        self._response.close()
        self._connection.close()

    def __enter__(self) -> Body:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Http:
    """Calls of one runner."""

    def __init__(self, address: Address):
        self.address = address

    def get(self, *path: str, query: dict[str, str] | None = None) -> Any:
        return self.call("GET", path, query=query)

    def post(self, *path: str, body: object = None, about: Text | None = None) -> Any:
        return self.call("POST", path, body, about=about)

    def delete(self, *path: str, body: object = None) -> Any:
        return self.call("DELETE", path, body)

    def call(
        self,
        method: str,
        path: tuple[str, ...],
        body: object = None,
        about: Text | None = None,
        query: dict[str, str] | None = None,
    ) -> Any:
        """The JSON that `/api/v1/{path…}` answers; a slash within a part stands between segments, all else is escaped."""
        try:
            with self.open(method, api_path(*path), body, about, query) as answer:
                return json.loads(answer.read())
        except TimeoutError:
            raise Unreachable(f"the runner at {self.address.url} did not answer within {PATIENCE_S:g} s") from None
        except (ValueError, http.client.HTTPException) as error:
            raise SmackError(f"failed to understand the answer of the runner at {self.address.url}: {error}") from None

    def open(
        self,
        method: str,
        path: str,
        body: object = None,
        about: Text | None = None,
        query: dict[str, str] | None = None,
        patience: float | None = PATIENCE_S,
    ) -> Body:
        """An answer that is a success; `patience` is for its beginning, and `TimeoutError` says that it was not enough."""
        target = self.address.path + path + (f"?{urllib.parse.urlencode(query)}" if query else "")
        headers = {"Accept": "*/*"}
        if self.address.token:
            headers["Authorization"] = f"Bearer {self.address.token}"
        data = None
        if body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        connection = self._connection()
        try:
            wire = self._connected(connection)
            wire.settimeout(patience)
            connection.request(method, target, data, headers)
            response = connection.getresponse()
        except TimeoutError:
            connection.close()
            raise
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._unreachable(error) from None
        except BaseException:
            connection.close()
            raise
        answer = Body(connection, wire, response)
        if 200 <= response.status < 300:
            return answer
        with answer:
            raise self._refusal(response.status, answer.read(), about)

    def _connection(self) -> http.client.HTTPConnection:
        if not self.address.encrypted:
            return http.client.HTTPConnection(self.address.host, self.address.port, timeout=_CONNECT_S)
        try:
            trusted = ssl.create_default_context(cafile=str(self.address.tls_ca) if self.address.tls_ca else None)
        except (OSError, ssl.SSLError) as error:
            raise Unreachable(f"failed to read the CA {self.address.tls_ca}: {error}") from None
        return http.client.HTTPSConnection(self.address.host, self.address.port, timeout=_CONNECT_S, context=trusted)

    def _connected(self, connection: http.client.HTTPConnection) -> socket.socket:
        try:
            connection.connect()
        except TimeoutError as error:
            raise self._unreachable(error) from None
        wire: socket.socket = connection.sock
        # Calls are small, and an answer waits for all of them.
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return wire

    def _unreachable(self, error: Exception) -> Unreachable:
        at = f"failed to reach the runner at {self.address.url}"
        if isinstance(error, ssl.SSLCertVerificationError):
            hint = "" if self.address.tls_ca else "; give tls_ca, or SMACK_TLS_CA, the file of the CA that signed it"
            return Unreachable(f"{at}: its certificate is not trusted ({error.verify_message}){hint}")
        if isinstance(error, ssl.SSLError):
            return Unreachable(f"{at}: it does not encrypt; write http:// ({error.reason or error})")
        if isinstance(error, http.client.HTTPException):
            return Unreachable(f"{at}: what answers there is no runner, or one that encrypts; then write https:// ({error!r})")
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or repr(error)
        return Unreachable(f"{at}: is it running? start one with `smack dev`, or smack.dev() ({reason.lower()})")

    def _refusal(self, status: int, answer: bytes, about: Text | None) -> Refused:
        try:
            said = json.loads(answer)
            error, diagnostics = str(said["error"]), [Diagnostic.of(one) for one in said.get("diagnostics", [])]
        except (ValueError, KeyError, TypeError, AttributeError):
            start = answer[:200].decode(errors="replace").strip()
            error, diagnostics = f"the runner answered {status}{f': {start}' if start else ''}", []
        if status == 401:
            error += "; pass token_file, or set SMACK_TOKEN_FILE" if not self.address.token else "; the token is another one's"
        return Refused(status, error, diagnostics, about.text if about else "", about.file if about else "")


def api_path(*path: str) -> str:
    """`/api/v1/…` of these parts."""
    segments = [segment for part in path for segment in part.split("/") if segment]
    return "/".join(["/api/v1", *(urllib.parse.quote(segment, safe="") for segment in segments)])
