"""The rows that stand now, out of a query whose rows may be taken back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .rows import Rows

if TYPE_CHECKING:
    import pyarrow as pa

Row = tuple[Any, ...]


class Changelog:
    """Folds a changelog: `changes.apply(batch)` for each batch of it, and `changes.rows()` are those that stand.

    The first column of a changelog says what becomes of a row: what begins with `+` brings it, what begins with `-` takes it back
    (`+`, `-`, or `+I`, `-U`, `+U`, `-D`). Rows are counted and not replaced, so the two halves of an update may come in either
    order, as they do from several slices. A batch without that column only brings rows.
    """

    def __init__(self, key: Sequence[str] | str | None = None, op: str | None = "op"):
        """`key`: columns of which one row each stands; without them a row is its own key, and may stand several times. `op`: the
        first column's name; none where a query that only brings rows has a column of that name."""
        self.key = [key] if isinstance(key, str) else list(key) if key is not None else None
        self.op = op
        self.n_changes = 0
        self._schema: pa.Schema | None = None
        # By key its rows, each with how often it came less how often it was taken back, the latest one last.
        self._kept: dict[Row, dict[Row, list[Any]]] = {}
        self._emptied: set[Row] = set()

    def apply(self, batch: pa.RecordBatch) -> None:
        """Takes up what a batch says."""
        import pyarrow as pa

        names = list(batch.schema.names)
        told = bool(names) and names[0] == self.op and _is_text(batch.schema.field(0).type)
        fields = list(batch.schema)[1:] if told else list(batch.schema)
        self._schema = pa.schema(fields)
        columns = [column.to_pylist() for column in batch.columns]
        weights = [_weight(word) for word in columns.pop(0)] if told else [1] * batch.num_rows
        places = self._places([field.name for field in fields])
        self.n_changes += batch.num_rows
        for weight, *values in zip(weights, *columns, strict=True):
            row = tuple(_frozen(value) for value in values)
            self._add(row if places is None else tuple(row[at] for at in places), row, values, weight)
        # Not at once: a key whose row is taken back for another one keeps its place.
        for key in self._emptied:
            if not self._kept.get(key, True):
                del self._kept[key]
        self._emptied.clear()

    def rows(self) -> Rows:
        """Those that stand now, by key in the order in which keys came."""
        import pyarrow as pa

        if self._schema is None:
            return Rows(pa.table({}))
        standing = list(self._standing())
        arrays = [pa.array([values[at] for values in standing], type=field.type) for at, field in enumerate(self._schema)]
        return Rows(pa.Table.from_arrays(arrays, schema=self._schema))

    def __len__(self) -> int:
        return sum(1 for _ in self._standing())

    def _standing(self) -> Iterator[list[Any]]:
        for kept in self._kept.values():
            there = [counted for counted in kept.values() if counted[0] > 0]
            if self.key is not None:
                # Between the halves of an update there may be two.
                there = there[-1:]
            for count, values in there:
                yield from [values] * (1 if self.key is not None else count)

    def _places(self, names: list[str]) -> list[int] | None:
        if self.key is None:
            return None
        missing = [name for name in self.key if name not in names]
        if missing:
            raise ValueError(f"the changelog has no column '{missing[0]}'; it has {', '.join(names)}")
        return [names.index(name) for name in self.key]

    def _add(self, key: Row, row: Row, values: list[Any], weight: int) -> None:
        kept = self._kept.setdefault(key, {})
        count = kept.pop(row, [0])[0] + weight
        if count != 0:
            kept[row] = [count, values]
        elif not kept:
            self._emptied.add(key)


def _is_text(kind: pa.DataType) -> bool:
    return str(kind) in ("string", "large_string", "string_view")


def _weight(word: str | None) -> int:
    if word and word[0] in "+-":
        return 1 if word[0] == "+" else -1
    raise ValueError(f"'{word}' says neither that a row came (+I, +U) nor that one was taken back (-U, -D)")


class _NotANumber:
    """Of all NaN, so that one that comes back is found."""


_NAN = _NotANumber()


def _frozen(value: Any) -> Any:
    """The value as something to look up by."""
    if isinstance(value, float) and value != value:
        return _NAN
    if isinstance(value, (list, tuple)):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, dict):
        return tuple((name, _frozen(item)) for name, item in value.items())
    return value
