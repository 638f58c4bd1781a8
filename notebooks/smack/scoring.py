"""Scores of rows that are at hand here, computed by the cluster: `predict` over VALUES.

It is for some rows to look at. Rows that the cluster has, or that come as a stream, are scored where they are, in SQL.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .api import Http
from .literals import literal, name, text, type_name
from .views import ModelView

if TYPE_CHECKING:
    import pyarrow as pa

# Values of all rows together; more of them take the cluster longer to read than to score.
VALUES_MAX = 1_000_000
# A query's text, well below what the runner takes.
_QUERY_BYTES = 1_000_000
_QUERY_ROWS = 1_000


def detail(http: Http, model: str) -> dict[str, Any]:
    """Of the version that a query means by this: a model's name, or `name@version`, or `name@alias`."""
    named, _, version = model.partition("@")
    found: dict[str, Any] = http.get("models", named, version or "-")
    return found


def which(http: Http, model: str) -> ModelView:
    """What that version is."""
    found: ModelView = detail(http, model)["model"]
    return found


def features(table: pa.Table, model: ModelView) -> pa.Table:
    """The columns that the model takes, in its order."""
    missing = [feature for feature in model["features"] if feature not in table.column_names]
    if missing:
        near = difflib.get_close_matches(missing[0], table.column_names, 1)
        hint = f"; is it '{near[0]}'?" if near else ""
        raise ValueError(f"model '{model['model']}' takes a column '{missing[0]}', which the rows do not have{hint}")
    n_values = table.num_rows * len(model["features"])
    if n_values > VALUES_MAX:
        raise ValueError(
            f"{n_values:,} values are too many to send with a query (at most {VALUES_MAX:,}); write them where the cluster reads "
            "them, a topic or files, and score them there: INSERT INTO … SELECT predict(…)"
        )
    return table.select(model["features"])


def queries(given: pa.Table, model: ModelView) -> Iterator[str]:
    """Queries that score these rows, of so many each as go into one; each gives `score` in the order of its rows."""
    kinds = [type_name(field.type) for field in given.schema]
    columns = [name(f"c{at}") for at in range(len(kinds))]
    # One version for all, also if another one is promoted meanwhile.
    called = ", ".join([text(f"{model['model']}@{model['version']}"), *columns])
    casts = ", ".join(f"CAST({column} AS {kind}) AS {column}" for column, kind in zip(columns, kinds, strict=True))
    head = f"SELECT predict({called}) AS score FROM (SELECT at, {casts} FROM (VALUES\n"
    tail = f"\n) AS given(at, {', '.join(columns)})) AS typed ORDER BY at"
    for listed in _pieces(_listed(given, kinds)):
        yield head + ",\n".join(listed) + tail


def _listed(given: pa.Table, kinds: list[str]) -> Iterator[str]:
    at = 0
    for batch in given.to_batches(max_chunksize=_QUERY_ROWS):
        columns: list[list[Any]] = [column.to_pylist() for column in batch.columns]
        for row in zip(*columns, strict=True):
            yield f"({', '.join([str(at), *(literal(value, kind) for value, kind in zip(row, kinds, strict=True))])})"
            at += 1


def _pieces(rows: Iterator[str]) -> Iterator[list[str]]:
    piece: list[str] = []
    n_bytes = 0
    for row in rows:
        # A letter that is none of ASCII's is up to twelve bytes of JSON.
        row_bytes = len(row) if row.isascii() else 12 * len(row)
        if piece and (n_bytes + row_bytes > _QUERY_BYTES or len(piece) == _QUERY_ROWS):
            yield piece
            piece, n_bytes = [], 0
        piece.append(row)
        n_bytes += row_bytes
    if piece:
        yield piece
