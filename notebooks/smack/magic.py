"""`%%smack`: a cell of SQL. One that asks shows its rows; one that writes or trains is submitted, and its jobs are shown.

Options stand in the first line: `--out NAME` keeps the rows (or the group) in a variable, `--seconds N` and `--limit N` watch a
query that never ends, `--wait` waits for the jobs, `--name GROUP` names them, `--on NAME` is a variable that holds a cluster; by
default it is the one that was connected to last.
"""

from __future__ import annotations

import argparse
import time
from typing import Any, NoReturn

from . import cluster as clusters
from . import shown, statements
from .changelog import Changelog
from .cluster import Cluster
from .errors import Diagnostic, Refused, SmackError
from .rows import Rows

_DRAW_S = 0.5


def load(ipython: Any) -> None:
    """Makes the magic known, as a cell's and, with the query behind its options, as a line's."""

    def smack(line: str, cell: str | None = None) -> object:
        return run(ipython, line, cell)

    smack.__doc__ = __doc__
    ipython.register_magic_function(smack, "line_cell", "smack")


def run(ipython: Any, line: str, cell: str | None) -> object:
    """What the cell gives, for IPython to show."""
    options = _options(line, cell is not None)
    text = cell if cell is not None else " ".join(options.query)
    cluster = _cluster(ipython, options.on)
    given: object
    if statements.is_job(text):
        group = cluster.submit(text, name=options.name or "cell")
        given = cluster.wait(group, options.timeout) if options.wait else cluster.jobs(group)
        kept: object = group
    elif options.seconds is not None or options.limit is not None:
        kept = _watched(cluster, text, options.limit, options.seconds)
        # It is shown already.
        given = None
    else:
        given = kept = _asked(cluster, text)
    if options.out:
        ipython.push({options.out: kept})
    return given


def _asked(cluster: Cluster, text: str) -> Rows:
    try:
        return cluster.sql(text)
    except Refused as error:
        if not any("never ends" in diagnostic.message for diagnostic in error.diagnostics):
            raise
        told = [
            Diagnostic(one.message, one.span, "watch it for a while with `%%smack --seconds 10`, or write INSERT INTO for a job")
            if "never ends" in one.message
            else one
            for one in error.diagnostics
        ]
        raise Refused(error.status, error.error, told, error.source, error.file) from None


def _watched(cluster: Cluster, text: str, limit: int | None, seconds: float | None) -> Rows:
    """The rows of a query that never ends, shown while they come; of one that takes rows back those that stand."""
    from IPython.display import display

    handle: Any = None
    drawn = 0.0
    batches = cluster.stream(text, limit, seconds)
    seen = _Seen(batches.changes)
    try:
        with batches:
            for batch in batches:
                seen.add(batch)
                if time.monotonic() - drawn < _DRAW_S:
                    continue
                if handle is None:
                    handle = display(seen, display_id=True)  # type: ignore[no-untyped-call]
                else:
                    handle.update(seen)
                drawn = time.monotonic()
    except KeyboardInterrupt:
        # Whoever has seen enough interrupts the cell, and keeps the rows.
        pass
    if handle is None:
        display(seen)  # type: ignore[no-untyped-call]
    else:
        handle.update(seen)
    return seen.rows()


class _Seen:
    """What a cell has seen of a stream: the latest rows, or those that stand."""

    # Rows that are kept of a stream which only brings some.
    KEPT = 10_000

    def __init__(self, changes: bool) -> None:
        self._changes = Changelog() if changes else None
        self._batches: list[Any] = []
        self._n = 0

    def add(self, batch: Any) -> None:
        self._n += batch.num_rows
        if self._changes is not None:
            self._changes.apply(batch)
            return
        self._batches.append(batch)
        while sum(kept.num_rows for kept in self._batches[1:]) >= self.KEPT:
            self._batches.pop(0)

    def rows(self) -> Rows:
        import pyarrow as pa

        if self._changes is not None:
            return self._changes.rows()
        return Rows(pa.Table.from_batches(self._batches) if self._batches else pa.table({}))

    def _shown(self) -> tuple[list[str], list[list[Any]], str]:
        rows = self.rows()
        table = rows.arrow()
        last = table.slice(max(len(rows) - shown.ROWS, 0))
        cells = [list(row) for row in zip(*(column.to_pylist() for column in last.columns), strict=True)]
        if self._changes is not None:
            return rows.columns, cells, f"{shown.how_many(len(last), len(rows))} after {self._n:,} changes"
        return rows.columns, cells, f"the latest {shown.how_many(len(last), self._n)}"

    def __repr__(self) -> str:
        return shown.text_table(*self._shown())

    def _repr_html_(self) -> str:
        return shown.html_table(*self._shown())


def _cluster(ipython: Any, name: str | None) -> Cluster:
    if name is None:
        return clusters.latest()
    found = ipython.user_ns.get(name)
    if not isinstance(found, Cluster):
        raise SmackError(f"--on {name}: there is no variable '{name}' that holds a cluster; smack.connect() gives one")
    return found


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SmackError(f"%%smack: {message}\n{self.format_usage().strip()}")


def _options(line: str, is_cell: bool) -> argparse.Namespace:
    parser = _Parser(prog="%%smack" if is_cell else "%smack", add_help=False, allow_abbrev=False)
    parser.add_argument("--out", metavar="NAME")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--wait", action="store_true")
    parser.add_argument("--timeout", type=float, default=300.0)
    parser.add_argument("--name", metavar="GROUP")
    parser.add_argument("--on", metavar="CLUSTER")
    if not is_cell:
        parser.add_argument("query", nargs=argparse.REMAINDER)
    # Quotes are the query's own, so words are what blanks divide.
    options = parser.parse_args(line.split())
    if options.out is not None and not options.out.isidentifier():
        parser.error(f"--out {options.out} is no name of a variable")
    return options
