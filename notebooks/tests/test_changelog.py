"""Changelogs fold into the rows that stand, whatever order their halves come in."""

from __future__ import annotations

import itertools
import random

import pyarrow as pa
import pytest

from smack import Changelog

from .conftest import batch


def changes(*listed: tuple[str, str, int]) -> pa.RecordBatch:
    ops, keys, counts = zip(*listed, strict=True)
    return batch(op=list(ops), key=list(keys), n=list(counts))


def test_the_last_row_of_each_key_stands() -> None:
    fold = Changelog(key=["key"])
    fold.apply(changes(("+I", "a", 1), ("+I", "b", 1)))
    fold.apply(changes(("-U", "a", 1), ("+U", "a", 2), ("+I", "c", 5)))
    fold.apply(changes(("-D", "b", 1)))
    assert list(fold.rows()) == [{"key": "a", "n": 2}, {"key": "c", "n": 5}]
    assert len(fold) == 2 and fold.n_changes == 6


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_halves_may_come_in_any_order(order: tuple[int, ...]) -> None:
    told = [("+I", "a", 1), ("-U", "a", 1), ("+U", "a", 2), ("-U", "a", 2)]
    fold = Changelog("key")
    for at in order:
        fold.apply(changes(told[at]))
    assert len(fold) == 0
    fold.apply(changes(("+U", "a", 3)))
    assert list(fold.rows()) == [{"key": "a", "n": 3}]


def test_a_key_keeps_its_place_over_an_update() -> None:
    fold = Changelog("key")
    fold.apply(changes(("+I", "a", 1), ("+I", "b", 1)))
    fold.apply(changes(("-U", "a", 1), ("+U", "a", 2)))
    assert fold.rows().column("key") == ["a", "b"]


def test_without_a_key_rows_are_counted() -> None:
    fold = Changelog()
    fold.apply(changes(("+I", "a", 1), ("+I", "a", 1), ("+I", "b", 1), ("-D", "a", 1)))
    assert fold.rows().column("key") == ["a", "b"]
    fold.apply(changes(("+I", "b", 1)))
    assert fold.rows().column("key") == ["a", "b", "b"] and len(fold) == 3


def test_a_sum_by_key_is_the_batch_answer() -> None:
    draws = random.Random(1)
    sums: dict[str, int] = {}
    told: list[tuple[str, str, int]] = []
    for _ in range(2000):
        key, value = draws.choice("abcdefgh"), draws.randrange(-3, 4)
        if key in sums:
            told.append(("-U", key, sums[key]))
        told.append(("+U" if key in sums else "+I", key, sums.get(key, 0) + value))
        sums[key] = sums.get(key, 0) + value
    fold = Changelog("key")
    while told:
        # Within a few neighbours any order, as several slices give it.
        piece, told = told[:16], told[16:]
        draws.shuffle(piece)
        fold.apply(changes(*piece))
    assert {row["key"]: row["n"] for row in fold.rows()} == sums


def test_a_batch_without_the_column_only_brings_rows() -> None:
    fold = Changelog("a")
    fold.apply(batch(a=[1, 2], op=["x", "y"]))
    assert fold.rows().column("op") == ["x", "y"]
    alone = Changelog(op=None)
    alone.apply(batch(op=["left", "right"]))
    assert alone.rows().column("op") == ["left", "right"]


def test_values_of_every_kind_are_found_again() -> None:
    nan = float("nan")
    schema = pa.schema(
        [("op", pa.string()), ("x", pa.float64()), ("l", pa.list_(pa.float64())), ("s", pa.struct([("a", pa.int64())]))]
    )

    def told(op: str) -> pa.RecordBatch:
        return pa.RecordBatch.from_pydict({"op": [op], "x": [nan], "l": [[nan, None]], "s": [{"a": 1}]}, schema=schema)

    fold = Changelog()
    fold.apply(told("+I"))
    assert fold.rows().arrow().schema == pa.schema(list(schema)[1:])
    assert len(fold) == 1
    fold.apply(told("-D"))
    assert len(fold) == 0 and len(fold.rows()) == 0


def test_what_is_no_change_and_no_key_is_told() -> None:
    with pytest.raises(ValueError, match="'oops' says neither"):
        Changelog().apply(changes(("oops", "a", 1)))
    with pytest.raises(ValueError, match="no column 'kee'; it has key, n"):
        Changelog(["kee"]).apply(changes(("+I", "a", 1)))
    assert len(Changelog().rows()) == 0
