"""Where the runner is, and what it is to be shown: found as the command line finds it."""

from __future__ import annotations

import json
import os
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path

from .errors import SmackError

USUAL = "http://127.0.0.1:5080"


@dataclass(frozen=True)
class Address:
    """A runner."""

    url: str
    token: str | None = field(default=None, repr=False)
    # The CA by which its certificate is known; without it those of this machine.
    tls_ca: Path | None = None

    @property
    def host(self) -> str:
        return self._parts().hostname or ""

    @property
    def port(self) -> int:
        parts = self._parts()
        return parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def encrypted(self) -> bool:
        return self._parts().scheme == "https"

    @property
    def path(self) -> str:
        """What stands before the paths of the API, for a runner behind a proxy."""
        return self._parts().path.rstrip("/")

    def _parts(self) -> urllib.parse.SplitResult:
        return urllib.parse.urlsplit(self.url)


def find(
    runner: str | None = None,
    token_file: str | os.PathLike[str] | None = None,
    tls_ca: str | os.PathLike[str] | None = None,
) -> Address:
    """What was said, else the variables SMACK_RUNNER, SMACK_TOKEN_FILE and SMACK_TLS_CA, else the `smack dev` of the current
    folder, else the usual port of this machine."""
    dev = of_folder(Path())
    url = runner or os.environ.get("SMACK_RUNNER") or dev.get("runner") or USUAL
    ca = tls_ca or os.environ.get("SMACK_TLS_CA") or dev.get("tls_ca")
    if "://" not in url:
        url = f"{'https' if ca else 'http'}://{url}"
    address = Address(url.rstrip("/"), _token(token_file or os.environ.get("SMACK_TOKEN_FILE")), Path(ca) if ca else None)
    try:
        sound = urllib.parse.urlsplit(url).scheme in ("http", "https") and bool(address.host) and address.port > 0
    except ValueError:
        sound = False
    if not sound:
        raise SmackError(f"failed to use '{url}' as the runner's address: it must look like http://host:port, or https://host:port")
    return address


def of_dev(folder: Path, token_file: str | os.PathLike[str] | None) -> Address:
    """The cluster that works in this folder's `.smack`, whatever variables say of others."""
    said = of_folder(folder)
    return Address(said["runner"], _token(token_file), Path(said["tls_ca"]) if "tls_ca" in said else None)


def of_folder(folder: Path) -> dict[str, str]:
    """What the cluster that works in this folder's `.smack` says of itself; nothing if there is none."""
    try:
        said = json.loads((folder / ".smack" / "dev.json").read_text())
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in said.items()} if isinstance(said, dict) else {}


def _token(file: str | os.PathLike[str] | None) -> str | None:
    if not file:
        return None
    try:
        return Path(file).read_text().strip()
    except OSError as error:
        raise SmackError(f"failed to read the token file {os.fspath(file)}: {error.strerror or error}") from None
