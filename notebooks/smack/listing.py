"""A list that shows itself as a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from . import shown

T = TypeVar("T")


class Listing(list[T]):
    """Jobs, agents, models and the like: a list like any other, and in a notebook a table of what matters most."""

    def __init__(self, items: Iterable[T], columns: Mapping[str, Callable[[T], Any]]):
        super().__init__(items)
        self._columns = dict(columns)

    def __repr__(self) -> str:
        return shown.text_table(list(self._columns), self._first(), self._note())

    def _repr_html_(self) -> str:
        return shown.html_table(list(self._columns), self._first(), self._note())

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        # IPython would show any list item by item.
        printer.text("Listing(...)" if cycle else repr(self))

    def _first(self) -> list[list[Any]]:
        return [[of(item) for of in self._columns.values()] for item in self[: shown.ROWS]]

    def _note(self) -> str:
        return shown.how_many(min(len(self), shown.ROWS), len(self))
