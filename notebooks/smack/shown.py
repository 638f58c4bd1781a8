"""Tables as text and as HTML, for whatever is shown in a notebook.

Whatever a value holds is shown as text: no markup of a value reaches the page.
"""

from __future__ import annotations

import datetime
import html
from collections.abc import Iterable, Sequence
from typing import Any

# Rows that are shown of a longer table.
ROWS = 20
# Letters that are shown of a longer value.
LETTERS = 200


def value_text(value: Any) -> str:
    """A value as it is shown."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime.datetime):
        return value.isoformat(sep=" ").replace("+00:00", "Z")
    if isinstance(value, (bytes, bytearray)):
        return _cut(value[:LETTERS].hex())
    return _cut(str(value))


def _cut(text: str) -> str:
    return text if len(text) <= LETTERS else text[: LETTERS - 1] + "…"


def how_many(shown: int, rows: int) -> str:
    """What stands below a table."""
    if shown < rows:
        return f"{shown:,} of {rows:,} rows"
    return "1 row" if rows == 1 else f"{rows:,} rows"


def text_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], note: str) -> str:
    """For terminals."""
    cells = [list(columns), *([" ".join(value_text(value).split("\n")) for value in row] for row in rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(columns))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([*lines, note])


def html_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], note: str) -> str:
    """For notebooks."""
    head = "".join(f"<th>{html.escape(str(column))}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{html.escape(note)}</p>"


def _cell(value: Any) -> str:
    if value is None:
        return "<td><i>NULL</i></td>"
    right = ' style="text-align: right"' if isinstance(value, (int, float)) and not isinstance(value, bool) else ""
    return f"<td{right}>{html.escape(value_text(value))}</td>"
