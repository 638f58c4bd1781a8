"""Mistakes in a text, shown under their words as the command line shows them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import secrets

if TYPE_CHECKING:
    from .errors import Diagnostic

_TAB = "    "


def render(text: str, file: str, diagnostics: Sequence[Diagnostic]) -> str:
    """All of them in the order of the text, each with the line, a caret under the word, and the way out."""
    # Hiding keeps every byte in its place, so spans hold for what is shown.
    shown = secrets.hide(text).encode()
    ordered = sorted(diagnostics, key=lambda diagnostic: diagnostic.span or (-1, -1))
    return "".join(_one(shown, file, diagnostic) for diagnostic in ordered)


def _one(shown: bytes, file: str, diagnostic: Diagnostic) -> str:
    lines = [f"  error: {diagnostic.message}"]
    if diagnostic.span is not None:
        lines += _place(shown, file, diagnostic.span)
    if diagnostic.help:
        lines.append(f"  help: {diagnostic.help}")
    return "\n".join(lines) + "\n"


def _place(shown: bytes, file: str, span: tuple[int, int]) -> list[str]:
    start, end = _on_characters(shown, span)
    before = shown[:start].decode()
    number = before.count("\n") + 1
    # A caret under a whole paragraph points at nothing: the first line of it is enough.
    word = shown[start:end].decode().split("\n", 1)[0]
    column = len(before) - (before.rfind("\n") + 1)
    all_lines = shown.decode().split("\n")
    first, last = max(number - 1, 1), min(number + 1, len(all_lines))
    if last > number and last == len(all_lines) and not all_lines[-1]:
        last -= 1
    wide = len(str(last))
    framed = [f"{' ' * wide}  ╭─[{file}:{number}:{column + 1}]"]
    for at in range(first, last + 1):
        line = all_lines[at - 1].rstrip("\r")
        framed.append(f" {at:>{wide}} │ {line.replace(chr(9), _TAB)}")
        if at == number:
            under = " " * _width(line[:column]) + "^" * max(_width(word), 1)
            framed.append(f" {' ' * wide} · {under}")
    framed.append(f" {' ' * wide} ╰────")
    return framed


def _on_characters(encoded: bytes, span: tuple[int, int]) -> tuple[int, int]:
    """The span within the text and on whole characters, whatever it was."""
    start = max(min(span[0], len(encoded)), 0)
    end = max(min(span[1], len(encoded)), start)
    while start > 0 and _continues(encoded, start):
        start -= 1
    while _continues(encoded, end):
        end += 1
    return start, end


def _continues(encoded: bytes, at: int) -> bool:
    return at < len(encoded) and encoded[at] & 0xC0 == 0x80


def _width(text: str) -> int:
    """Columns that a text takes in letters of one width."""

    def of(letter: str) -> int:
        if letter == "\t":
            return len(_TAB)
        if unicodedata.combining(letter):
            return 0
        return 2 if unicodedata.east_asian_width(letter) in "WF" else 1

    return sum(of(letter) for letter in text)
