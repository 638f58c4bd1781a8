"""Rows are sent with a query so that the cluster reads the same values of the same types."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

import pyarrow as pa
import pytest

import smack
from smack import scoring
from smack.literals import literal, parameter, type_name

from .conftest import Fake, arrow_stream, batch

MODEL: Any = {"model": "it's", "version": 3, "features": ["b", "a"]}


@pytest.mark.parametrize(
    ("kind", "sql"),
    [
        (pa.int8(), "TINYINT"),
        (pa.uint8(), "SMALLINT"),
        (pa.uint32(), "BIGINT"),
        (pa.uint64(), "DECIMAL(20, 0)"),
        (pa.float32(), "FLOAT"),
        (pa.large_string(), "VARCHAR"),
        (pa.dictionary(pa.int8(), pa.string()), "VARCHAR"),
        (pa.timestamp("ns", "Europe/Berlin"), "TIMESTAMP"),
        (pa.decimal128(10, 2), "DECIMAL(10, 2)"),
        (pa.list_(pa.list_(pa.float64())), "DOUBLE[][]"),
        (pa.null(), "DOUBLE"),
        (pa.date32(), "DATE"),
        (pa.bool_(), "BOOLEAN"),
        (pa.binary(3), "VARBINARY"),
    ],
)
def test_types(kind: pa.DataType, sql: str) -> None:
    assert type_name(kind) == sql


def test_a_type_that_sql_has_no_form_for_is_told() -> None:
    with pytest.raises(TypeError, match="duration"):
        type_name(pa.duration("s"))


@pytest.mark.parametrize(
    ("value", "kind", "sql"),
    [
        (None, "BIGINT", "CAST(NULL AS BIGINT)"),
        (True, "BOOLEAN", "TRUE"),
        (-5, "BIGINT", "-5"),
        (-(2**63), "BIGINT", "CAST('-9223372036854775808' AS BIGINT)"),
        (0.1, "DOUBLE", "0.1"),
        (1e300, "DOUBLE", "1e+300"),
        (float("nan"), "DOUBLE", "CAST('NaN' AS DOUBLE)"),
        (float("-inf"), "FLOAT", "CAST('-Infinity' AS FLOAT)"),
        ("it's '; DROP", "VARCHAR", "'it''s ''; DROP'"),
        (b"\x00\xff", "VARBINARY", "X'00ff'"),
        (datetime.date(2026, 1, 2), "DATE", "CAST('2026-01-02' AS DATE)"),
        (datetime.datetime(2026, 1, 2, 3), "TIMESTAMP", "CAST('2026-01-02T03:00:00.000000' AS TIMESTAMP)"),
        (decimal.Decimal("1.50"), "DECIMAL(10, 2)", "CAST('1.50' AS DECIMAL(10, 2))"),
        ([1, None], "BIGINT[]", "make_array(1, CAST(NULL AS BIGINT))"),
    ],
)
def test_values(value: Any, kind: str, sql: str) -> None:
    assert literal(value, kind) == sql


def test_moments_are_those_of_utc() -> None:
    berlin = datetime.datetime(2026, 1, 2, 3, tzinfo=datetime.timezone(datetime.timedelta(hours=1)))
    assert literal(berlin, "TIMESTAMP") == "CAST('2026-01-02T02:00:00.000000' AS TIMESTAMP)"


def test_columns_go_in_the_models_order() -> None:
    given = scoring.features(pa.table({"a": [1, 2], "other": ["x", "y"], "b": [0.5, None]}), MODEL)
    assert list(scoring.queries(given, MODEL)) == [
        'SELECT predict(\'it\'\'s@3\', "c0", "c1") AS score FROM (SELECT at, CAST("c0" AS DOUBLE) AS "c0", CAST("c1" AS BIGINT) '
        'AS "c1" FROM (VALUES\n(0, 0.5, 1),\n(1, CAST(NULL AS DOUBLE), 2)\n) AS given(at, "c0", "c1")) AS typed ORDER BY at'
    ]


def test_many_rows_are_several_queries_and_too_many_are_refused() -> None:
    many = pa.table({"a": list(range(2500)), "b": ["ü" * 100] * 2500})
    queries = list(scoring.queries(scoring.features(many, MODEL), MODEL))
    assert sum(query.count("\n(") for query in queries) == 2500
    assert len(queries) == 4 and max(len(query.encode()) for query in queries) < 2_000_000
    with pytest.raises(ValueError, match=r"2,000,000 values are too many.*INSERT INTO … SELECT predict"):
        scoring.features(pa.table({"a": range(1_000_000), "b": range(1_000_000)}), MODEL)


def test_a_column_that_is_missing_is_named_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="takes a column 'amount', which the rows do not have; is it 'amuont'"):
        scoring.features(pa.table({"a": [1], "amuont": [1]}), MODEL | {"features": ["a", "amount"]})


def test_scores_stand_beside_the_rows(fake: Fake, cluster: smack.Cluster) -> None:
    fake.on("GET", "/api/v1/models/m/-", {"model": MODEL, "manifest": {}, "changes": []})
    fake.on("GET", "/api/v1/models/m/beta", {"model": MODEL, "manifest": {}, "changes": []})
    fake.on("POST", "/api/v1/sql", b"".join(arrow_stream(batch(score=[0.25, 0.75]))))
    rows = [{"a": 1, "b": 2.0, "name": "x"}, {"a": 3, "b": 4.0, "name": "y"}]
    for model in ("m", "m@beta"):
        assert list(cluster.predict(model, rows)) == [rows[0] | {"score": 0.25}, rows[1] | {"score": 0.75}]
    assert cluster.predict("m", rows, score="p").columns == ["a", "b", "name", "p"]
    with pytest.raises(ValueError, match="have a column 'score' already"):
        cluster.predict("m", [{"score": 1}])
    assert cluster.predict("m", pa.table({"a": pa.array([], pa.int64()), "b": pa.array([], pa.float64())})).column("score") == []


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (None, None),
        (True, True),
        (7, 7),
        (2**63, "9223372036854775808"),
        (0.5, 0.5),
        (float("inf"), "Infinity"),
        ("it's", "it's"),
        (decimal.Decimal("1.50"), "1.50"),
        (datetime.date(2026, 3, 1), "2026-03-01"),
        (datetime.datetime(2026, 3, 1, 10), "2026-03-01T10:00:00.000000"),
        (datetime.datetime(2026, 3, 1, 10, tzinfo=datetime.timezone(datetime.timedelta(hours=2))), "2026-03-01T08:00:00.000000"),
    ],
)
def test_parameters(value: Any, sent: Any) -> None:
    assert parameter(value) == sent and type(parameter(value)) is type(sent)


def test_numpys_values_are_parameters() -> None:
    numpy = pytest.importorskip("numpy")
    assert parameter(numpy.int32(7)) == 7 and parameter(numpy.bool_(True)) is True
    assert parameter(numpy.datetime64("2026-03-01T10:00:00.5", "ns")) == "2026-03-01T10:00:00.500000000"


def test_what_cannot_be_a_parameter_is_told() -> None:
    with pytest.raises(TypeError, match="a list cannot be"):
        parameter([1])
