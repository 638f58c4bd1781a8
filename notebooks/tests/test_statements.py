"""What a text of SQL wants is found whatever stands in its comments and quotes."""

from __future__ import annotations

import pytest

from smack.jobs import is_file
from smack.statements import asks, is_job, n_models, statements


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO t SELECT 1",
        "-- SELECT\nSET a = 'b'; CREATE TABLE t (a BIGINT); insert into t select 1;",
        "CREATE MODEL m WITH (label = 'a;b') AS SELECT 1",
        "CREATE MATERIALIZED VIEW v AS SELECT 1",
        "create table t WITH (connector = 'blackhole') AS SELECT 1",
        "CREATE TABLE t (a BIGINT, b AS a + 1) AS SELECT 1",
        "CREATE OR REPLACE TABLE t AS SELECT 1",
    ],
)
def test_what_writes_or_trains_is_a_job(text: str) -> None:
    assert is_job(text)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "VALUES (1)",
        "(SELECT 1)",
        "EXPLAIN INSERT INTO t SELECT 1",
        "SHOW TABLES;",
        "DESCRIBE t -- CREATE MODEL",
        "SELECT 'INSERT INTO; CREATE MODEL', \"INSERT\" /* ; INSERT INTO t */",
        "CREATE TABLE t (a BIGINT, b AS a + 1, WATERMARK FOR b AS b) WITH (a = ') AS SELECT'); SELECT 'it''s; INSERT' FROM t",
        "CREATE VIEW v AS SELECT 1; SELECT * FROM v",
    ],
)
def test_what_asks_is_none(text: str) -> None:
    assert not is_job(text) and asks(text)


def test_statements_are_told_apart() -> None:
    assert statements("  ;; -- nothing\n; /* ; */") == []
    assert len(statements("SELECT ';'; SELECT \";\"; SELECT `;`")) == 3
    assert not asks("") and not is_job("") and not asks("CREATE TABLE t (a BIGINT)")
    assert n_models("CREATE MODEL a WITH () AS SELECT 1; create model b WITH () AS SELECT 'CREATE MODEL'") == 2


def test_a_file_is_no_text() -> None:
    assert is_file("a/b.SQL") and is_file(" x.toml") and is_file("my file.yaml")
    assert not is_file("SELECT 1") and not is_file("SELECT 1\n-- a.sql")
