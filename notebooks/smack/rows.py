"""Rows that were asked for and are all here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from . import shown

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow as pa


class Rows:
    """A table that came from the cluster: as Arrow, pandas or polars, as dictionaries, and as a table in a notebook.

    Whatever reads Arrow's PyCapsule interface (DuckDB, polars, pandas, …) takes it as it is.
    """

    def __init__(self, table: pa.Table):
        self._table = table

    def arrow(self) -> pa.Table:
        """The `pyarrow.Table`."""
        return self._table

    def pandas(self) -> pandas.DataFrame:
        """A pandas DataFrame."""
        frame: pandas.DataFrame = self._table.to_pandas()
        return frame

    def polars(self) -> polars.DataFrame:
        """A polars DataFrame."""
        import polars

        frame = polars.from_arrow(self._table)
        assert isinstance(frame, polars.DataFrame), type(frame)
        return frame

    @property
    def columns(self) -> list[str]:
        """Names, in order."""
        return list(self._table.column_names)

    def column(self, name: str) -> list[Any]:
        """The values of a column, as Python's own."""
        values: list[Any] = self._table.column(name).to_pylist()
        return values

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self._table.to_batches(max_chunksize=1024):
            yield from batch.to_pylist()

    def __getitem__(self, at: int) -> dict[str, Any]:
        n = len(self)
        if not -n <= at < n:
            raise IndexError(f"row {at} of {n}")
        row: dict[str, Any] = self._table.slice(at % n, 1).to_pylist()[0]
        return row

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        return shown.text_table(self.columns, self._first(), self._note())

    def _repr_html_(self) -> str:
        return shown.html_table(self.columns, self._first(), self._note())

    def _first(self) -> list[list[Any]]:
        # By column, because two columns of a query may have one name.
        first = self._table.slice(0, shown.ROWS)
        columns = [column.to_pylist() for column in first.columns]
        return [list(row) for row in zip(*columns, strict=True)]

    def _note(self) -> str:
        return shown.how_many(min(len(self), shown.ROWS), len(self))


def table_of(rows: Any) -> pa.Table:
    """What a person calls rows, as Arrow: a table, a batch, a DataFrame of pandas or polars, or dictionaries."""
    import pyarrow as pa

    if isinstance(rows, Rows):
        return rows.arrow()
    if isinstance(rows, pa.Table):
        return rows
    if isinstance(rows, pa.RecordBatch):
        return pa.Table.from_batches([rows])
    if isinstance(rows, dict):
        return pa.table(rows)
    if hasattr(rows, "__arrow_c_stream__"):
        return pa.table(rows)
    if hasattr(rows, "iloc"):
        # A pandas of before that interface.
        return pa.Table.from_pandas(rows, preserve_index=False)
    listed = list(rows)
    if not all(isinstance(row, dict) for row in listed):
        raise TypeError("rows are a pyarrow Table, a pandas or polars DataFrame, or a list of dictionaries")
    return pa.Table.from_pylist(listed)
