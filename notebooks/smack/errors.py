"""What can go wrong, each kind with its class, and said so that a person knows the way out.

In a notebook an error is shown as the command line shows it, without the traceback through this package: the message, and the
line of the cell that asked.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import carets

_PACKAGE = str(Path(__file__).parent)


@dataclass(frozen=True)
class Diagnostic:
    """One mistake in a text: what, where, and the way out."""

    message: str
    # Bytes of the text in UTF-8, from and to; without it the whole text is meant.
    span: tuple[int, int] | None = None
    help: str | None = None

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Diagnostic:
        span = said.get("span")
        return cls(str(said.get("message", "")), (int(span[0]), int(span[1])) if span else None, said.get("help"))


class SmackError(Exception):
    """Whatever this package raises on purpose."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in the place of a traceback."""
        lines = []
        asked = _asked_by(self)
        if asked is not None:
            lines.append(f"line {asked.lineno}: {asked.line}")
        return [*lines, str(self)]


class Unreachable(SmackError, ConnectionError):
    """Nobody answers, or what answers is not trusted."""


class WrongVersion(SmackError):
    """A runner whose API is not the one that this package speaks."""


class Refused(SmackError):
    """The runner heard the request and said no."""

    def __init__(self, status: int, error: str, diagnostics: Sequence[Diagnostic] = (), source: str = "", file: str = ""):
        self.status = status
        self.error = error
        self.diagnostics = list(diagnostics)
        self.source = source
        self.file = file
        super().__init__(self._said())

    def _said(self) -> str:
        if not self.diagnostics:
            return self.error
        shown = carets.render(self.source, self.file or "text", self.diagnostics)
        n = len(self.diagnostics)
        return f"{shown}error: {n} mistake{'' if n == 1 else 's'} in {self.file or 'text'}"


class JobFailed(SmackError):
    """A job that was waited for failed, or was stopped."""


class WaitedTooLong(SmackError, TimeoutError):
    """What was waited for did not come in the time that was given."""


class Cut(SmackError):
    """Rows that ended in the middle."""


class NotStarted(SmackError):
    """A local cluster that did not come up."""


def _asked_by(error: BaseException) -> traceback.FrameSummary | None:
    """The last line outside of this package; a magic's cell is one question by itself and needs none."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if "/IPython/" in frame.filename:
            return None
        if not frame.filename.startswith(_PACKAGE) and frame.line:
            return None if "_magic(" in frame.line else frame
    return None
