"""What notebooks show: tables, and no markup of anybody's values."""

from __future__ import annotations

import datetime
import re

import pyarrow as pa
import pytest

import smack
from smack import shown
from smack.rows import table_of

EVIL = "<script>alert('x')</script> & \"more\""


def test_html_in_values_and_names_is_text() -> None:
    rows = smack.Rows(pa.table({"<b>name</b>": [EVIL, None], "list": [[EVIL], []]}))
    html = rows._repr_html_()
    assert set(re.findall(r"<(\w+)", html)) <= {"table", "thead", "tbody", "tr", "th", "td", "i", "p"}
    assert "&lt;script&gt;" in html and "&lt;b&gt;name&lt;/b&gt;" in html
    assert "<i>NULL</i>" in html
    # A text that is called like what is absent is another thing.
    assert "<i>NULL</i>" not in smack.Rows(pa.table({"a": ["NULL"]}))._repr_html_()
    listing = smack.Listing([EVIL], {EVIL: lambda item: item})
    assert "<script" not in listing._repr_html_()


def test_a_long_table_shows_its_first_rows_and_says_how_many_there_are() -> None:
    rows = smack.Rows(pa.table({"a": list(range(1234))}))
    assert rows._repr_html_().count("<tr>") == shown.ROWS + 1
    assert "20 of 1,234 rows" in rows._repr_html_() and "20 of 1,234 rows" in repr(rows)
    assert "1 row<" in smack.Rows(pa.table({"a": [1]}))._repr_html_()
    assert "0 rows" in repr(smack.Rows(pa.table({"a": pa.array([], pa.int64())})))


def test_long_values_are_cut() -> None:
    assert len(shown.value_text("x" * 5000)) == shown.LETTERS
    assert len(shown.value_text(b"x" * 5000)) == shown.LETTERS


def test_values_as_text() -> None:
    moment = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.timezone.utc)
    assert [shown.value_text(value) for value in (None, True, 1.5, moment, b"\x01\xff")] == [
        "NULL",
        "true",
        "1.5",
        "2026-01-01 12:00:00Z",
        "01ff",
    ]


def test_text_is_in_columns() -> None:
    rows = smack.Rows(pa.table({"a": [1, 22], "text": ["x\ny", None]}))
    assert repr(rows) == "a   text\n1   x y\n22  NULL\n2 rows"


def test_rows_are_dictionaries_and_whatever_one_wants() -> None:
    rows = smack.Rows(pa.table({"a": list(range(3000)), "b": ["x"] * 3000}))
    assert len(rows) == 3000 and rows[-1] == {"a": 2999, "b": "x"} and rows.columns == ["a", "b"]
    assert [row["a"] for row in rows] == list(range(3000)) == rows.column("a")
    assert rows.pandas()["a"].sum() == rows.polars()["a"].sum() == sum(range(3000))
    assert pa.table(rows).equals(rows.arrow())
    with pytest.raises(IndexError):
        rows[3000]


def test_two_columns_of_one_name_are_both_shown() -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    assert repr(smack.Rows(table)) == "a  a\n1  2\n1 row"


def test_what_counts_as_rows() -> None:
    import pandas
    import polars

    wanted = pa.table({"a": [1, 2]})
    given = [wanted, smack.Rows(wanted), wanted.to_batches()[0], wanted.to_pylist(), {"a": [1, 2]}]
    given += [pandas.DataFrame({"a": [1, 2]}), polars.DataFrame({"a": [1, 2]}), iter(wanted.to_pylist())]
    for rows in given:
        assert table_of(rows).column("a").to_pylist() == [1, 2], rows
    with pytest.raises(TypeError, match="list of dictionaries"):
        table_of([1, 2])
