"""The package at a real cluster."""

from __future__ import annotations

import datetime
import decimal
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import smack

FILLED = """
CREATE TABLE rolls (id BIGINT, a BIGINT, x DOUBLE) WITH (connector = 'datagen', rows = '20000',
    fields.id.kind = 'sequence', fields.a.min = '0', fields.a.max = '99');
CREATE TABLE kept (a BIGINT PRIMARY KEY, n BIGINT, name VARCHAR);
INSERT INTO kept SELECT a, COUNT(*), CONCAT('<b>', CAST(a AS VARCHAR)) FROM rolls GROUP BY a;
"""
# A rate: it never ends.
ENDLESS = "CREATE TABLE ticks (id BIGINT, a BIGINT) WITH (connector = 'datagen', rate = '200', fields.id.kind = 'sequence', "
ENDLESS += "fields.a.min = '0', fields.a.max = '3');\n"


@pytest.fixture(scope="module")
def cluster() -> Iterator[smack.Dev]:
    with smack.dev() as cluster:
        cluster.wait(cluster.submit(FILLED, name="filled"))
        yield cluster


def test_the_package_is_that_of_the_binary(cluster: smack.Dev) -> None:
    assert cluster.version == smack.__version__
    assert cluster.smack("version").split()[1].startswith(smack.__version__), cluster.smack("version")


def test_rows(cluster: smack.Dev) -> None:
    assert sum(cluster.rows("kept").column("n")) == 20_000
    rows = cluster.sql("SELECT name, n > 0 AS some FROM kept WHERE a < 3 ORDER BY a")
    assert [row["name"] for row in rows] == ["<b>0", "<b>1", "<b>2"] and "<b>" not in rows._repr_html_()
    empty = cluster.sql("SELECT a, n FROM kept WHERE a < 0")
    assert len(empty) == 0 and empty.columns == ["a", "n"]
    many = ENDLESS.replace("rate = '200'", "rows = '300000'") + "SELECT id, id * 2 AS twice FROM ticks"
    with cluster.sql_batches(many) as batches:
        assert sum(batch.num_rows for batch in batches) == 300_000


def test_mistakes_are_shown_as_the_command_line_shows_them(cluster: smack.Dev) -> None:
    text = "CREATE VIEW größe AS -- ü 🙂\nSELECT a, nn FROM kept; -- ä\nSELECT * FROM größe"
    with pytest.raises(smack.Refused) as ours:
        cluster.sql(text)
    with pytest.raises(smack.SmackError) as theirs:
        cluster.smack("sql", text)
    assert str(ours.value).strip() == str(theirs.value)
    text = "CREATE TABLE t (a BIGINT) WITH (connector = 'kafak',\n  password = 'x', b = 1);\nINSERT INTO t SELECT nn FROM kept;"
    (cluster.folder / "wrong.sql").write_text(text)
    with pytest.raises(smack.Refused) as ours:
        cluster.submit(text, name="wrong")
    with pytest.raises(smack.SmackError) as theirs:
        cluster.smack("check", "wrong.sql")
    assert str(ours.value).strip() == str(theirs.value)


def test_a_job_from_its_start_to_its_end(cluster: smack.Dev) -> None:
    text = f"SET checkpoint.interval = '1s'; {ENDLESS} CREATE TABLE sums (a BIGINT PRIMARY KEY, n BIGINT);"
    group = cluster.submit(text + "INSERT INTO sums SELECT a, COUNT(*) FROM ticks GROUP BY a;", name="counted")
    assert group == "counted"
    cluster.wait(group, until=lambda jobs: (jobs[0]["metrics"]["checkpoint_epoch"] or 0) >= 1)
    job = cluster.job(group)["id"]
    why = cluster.why(job)
    assert why.state == "running" and "rows in" in str(why) and "task 0" in repr(why)
    assert any("launched" in event["text"] for event in cluster.events(job))
    kept = cluster.checkpoint(job, name="before")
    assert "before" in [one["name"] for one in kept]
    cluster.scale(job, 2)
    cluster.wait(group, until=lambda jobs: jobs[0]["parallelism"] == 2 and jobs[0]["state"] == "running")
    assert cluster.stop(group) == [job]
    assert cluster.wait(group)[0]["state"] == "stopped"
    assert sum(cluster.rows("sums").column("n")) > 0
    assert cluster.submit(text + "INSERT INTO sums SELECT a, COUNT(*) FROM ticks GROUP BY a;", name="counted", resume=True) == group
    cluster.stop(group)
    cluster.wait(group)


def test_logs_are_followed_to_their_end(cluster: smack.Dev) -> None:
    text = "kind = 'command'\nargv = ['/bin/sh', '-c', 'echo one; sleep 1; echo two; echo wrong >&2']\n[job]\ncpus = 0.1"
    group = cluster.submit(text, name="said", language="toml")
    cluster.wait(group, until=lambda jobs: bool(jobs[0]["tasks"]))
    task = cluster.job(group)["tasks"][0]["id"]
    assert list(cluster.logs(task, follow=True)) == ["one", "two"]
    assert list(cluster.logs(group, stderr=True)) == [f"{task} | wrong"]


def test_a_topic_and_what_comes_of_it(cluster: smack.Dev) -> None:
    cluster.smack("topics", "create", "orders", "--partitions", "2")
    rows = [{"id": at, "shop": f"shop {at % 3}", "at": datetime.datetime(2026, 1, 1, 0, 0, at % 60)} for at in range(1000)]
    assert cluster.produce("orders", rows, key="shop") == 1000
    table = "CREATE TABLE orders (id BIGINT, shop VARCHAR, at TIMESTAMP) WITH (connector = 'kafka', topic = 'orders'"
    counted = cluster.sql(
        f"{table}, scan.bounded = 'latest'); SELECT shop, COUNT(*) AS n, MAX(at) AS last FROM orders GROUP BY shop ORDER BY shop"
    )
    assert sum(batch.num_rows for batch in cluster.stream(f"{table}); SELECT id FROM orders", limit=1000)) == 1000
    assert counted.column("n") == [334, 333, 333]
    assert counted[0]["last"] == datetime.datetime(2026, 1, 1, 0, 0, 57, tzinfo=datetime.timezone.utc)


# Clusters of one's own -----------------------------------------------------------------------------------------------


def test_a_folder_that_was_given_keeps_what_was_there(tmp_path: Path) -> None:
    with smack.dev(folder=tmp_path / "mine", agents=1) as cluster:
        cluster.wait(cluster.submit(FILLED, name="filled"))
    assert not (tmp_path / "mine/.smack/dev.json").exists()
    with smack.dev(folder=tmp_path / "mine", agents=1) as cluster:
        assert sum(cluster.rows("kept").column("n")) == 20_000 and cluster.job("filled")["state"] == "finished"


def test_one_whose_interpreter_is_killed_ends() -> None:
    script = "import smack, sys; cluster = smack.dev(agents=1); print(cluster.runner, cluster.folder, flush=True); sys.stdin.read()"
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdin is not None
    runner, folder = process.stdout.readline().split()
    assert smack.connect(runner).version == smack.__version__
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 120
    while Path(folder).exists():
        assert time.monotonic() < deadline, sorted(Path(folder).rglob("*"))
        time.sleep(0.05)
    with pytest.raises(smack.Unreachable, match="refused"):
        smack.connect(runner)


def test_one_that_is_encrypted_and_asks_for_a_token(tmp_path: Path) -> None:
    subprocess.run([os.environ["SMACK_BIN"], "cert", "--dir", "certs"], cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "token").write_text("open-sesame")
    files = {"cert": "localhost.pem", "key": "localhost.key", "ca": "ca.pem"}
    args = ["--token-file", "token", *(word for of, name in files.items() for word in (f"--tls-{of}", f"certs/{name}"))]
    with smack.dev(folder=tmp_path, agents=1, args=args) as cluster:
        assert cluster.runner.startswith("https://") and cluster.sql("SELECT 1 AS one").column("one") == [1]
        assert next(cluster.stream("SELECT 1 AS one", seconds=60)).num_rows == 1
        assert "agent-1" in cluster.smack("agents")
        known = smack.connect(cluster.runner, tmp_path / "token", tls_ca=tmp_path / "certs/ca.pem")
        assert known.version == cluster.version
        with pytest.raises(smack.Unreachable, match=r"certificate is not trusted .*; give tls_ca, or SMACK_TLS_CA"):
            smack.connect(cluster.runner, tmp_path / "token")
        with pytest.raises(smack.Refused, match="token"):
            smack.connect(cluster.runner, tls_ca=tmp_path / "certs/ca.pem")
        with pytest.raises(smack.SmackError, match=r"https|encrypt"):
            smack.connect(cluster.runner.replace("https", "http"), tmp_path / "token")


# Queries that never end ----------------------------------------------------------------------------------------------


def test_a_stream_is_bounded_by_rows_and_by_seconds(cluster: smack.Dev) -> None:
    query = ENDLESS + "SELECT id, a FROM ticks"
    stream = cluster.stream(query, limit=150)
    assert not stream.changes
    ids = [value for batch in stream for value in batch.column("id").to_pylist()]
    # Several slices read, so which ones these are is not fixed.
    assert len(ids) == len(set(ids)) == 150
    began = time.monotonic()
    n_rows = sum(batch.num_rows for batch in cluster.stream(query, seconds=2))
    assert n_rows > 0 and time.monotonic() - began >= 2
    silent = query + " WHERE a > 100"
    assert list(cluster.stream(silent, seconds=1)) == []


def test_closing_a_stream_ends_its_query(cluster: smack.Dev) -> None:
    # More than run at once, one after another.
    for _ in range(20):
        with cluster.stream(ENDLESS + "SELECT id FROM ticks") as stream:
            assert next(stream).num_rows > 0


def test_a_changelog_folds_into_what_stands(cluster: smack.Dev) -> None:
    # Read in the order of their numbers, each key by one slice: what stands of a key is the answer over its rows so far.
    table = ENDLESS.replace("rate = '200'", "splits = '1', rate = '200'")
    fold = smack.Changelog(key="a")
    with cluster.stream(table + "SELECT a, COUNT(*) AS n, MAX(id) AS last FROM ticks GROUP BY a") as stream:
        assert stream.changes
        for batch in stream:
            fold.apply(batch)
            if sum(fold.rows().column("n")) >= 400:
                break
    standing = list(fold.rows())
    assert sorted(row["a"] for row in standing) == [0, 1, 2, 3] and fold.n_changes > len(standing)
    # Rows are a function of their number, so the same ones can be asked for once more.
    most = max(row["last"] for row in standing) + 1
    rows = list(cluster.sql(table.replace("rate = '200'", f"rows = '{most}'") + "SELECT id, a FROM ticks"))
    for row in standing:
        assert row["n"] == sum(one["a"] == row["a"] and one["id"] <= row["last"] for one in rows), row


def test_mistakes_in_a_stream_are_told_before_its_rows(cluster: smack.Dev) -> None:
    with pytest.raises(smack.Refused, match=r"(?s)unknown column 'nn'.*\^\^"):
        cluster.stream(ENDLESS + "SELECT nn FROM ticks")
    with pytest.raises(smack.Refused, match="never ends"):
        cluster.sql(ENDLESS + "SELECT COUNT(*) AS n FROM ticks")


# Training and scoring ------------------------------------------------------------------------------------------------

TRAINED = """
SET job.cpus = '0.5';
CREATE TABLE visits (id BIGINT, price DOUBLE, city BIGINT) WITH (connector = 'datagen', rows = '2000', fields.id.kind = 'sequence',
    fields.price.min = '0', fields.price.max = '100', fields.city.min = '0', fields.city.max = '3');
CREATE MODEL buys WITH (label = 'bought', task = 'binary', categorical = 'city', epochs = '20', seed = '1') AS
SELECT CONCAT('it''s ', CAST(city AS VARCHAR)) AS city, price, CASE WHEN price < 20 * city THEN 1 ELSE 0 END AS bought FROM visits;
"""


@pytest.fixture(scope="module")
def run(cluster: smack.Dev) -> smack.Run:
    return cluster.train(TRAINED, name="visits")


def test_a_training_has_its_figures(cluster: smack.Dev, run: smack.Run) -> None:
    assert run.outcome == "finished" and run.version == 1 and run.metric_name == "auc"
    assert run.metric is not None and run.metric > 0.95
    losses = [loss for loss in run.metrics().column("loss") if loss is not None]
    assert len(losses) > 2 and losses[-1] < losses[0]
    assert run.settings["seed"] == "1"
    assert run.plot()._repr_png_().startswith(b"\x89PNG")
    assert [one["id"] for one in cluster.runs("visits")] == [run.id] == [cluster.run("buys").id]
    assert cluster.model("buys")["features"] == ["city", "price"] and len(cluster.models("buys")) == 1
    assert cluster.model("buys@1")["version"] == 1
    with pytest.raises(smack.Refused, match="nothing"):
        cluster.model("nothing")


def test_rows_are_scored_as_sql_scores_them(cluster: smack.Dev, run: smack.Run) -> None:
    # Values that SQL has to be told apart: quotes, nulls, unseen texts, numbers at their ends.
    cities = ["it's 0", "it's 3", "'; DROP", None, "größe 🙂"]
    rows = [{"price": price, "city": city} for city in cities for price in (0.0, -1e300, 1e-300, 99.5, None)]
    schema = pa.schema([("price", pa.float64()), ("city", pa.string())])
    table = pa.Table.from_pylist(rows, schema)
    scored = cluster.predict("buys", table)
    assert scored.columns == ["price", "city", "score"] and all(0 <= score <= 1 for score in scored.column("score"))
    literal = {"it's 0": "'it''s 0'", "it's 3": "'it''s 3'", "'; DROP": "'''; DROP'", None: "CAST(NULL AS VARCHAR)"}
    for row in scored:
        price = "CAST(NULL AS DOUBLE)" if row["price"] is None else repr(row["price"])
        city = literal.get(row["city"], f"'{row['city']}'")
        assert cluster.sql(f"SELECT predict('buys', {city}, {price}) AS p")[0]["p"] == row["score"], row
    frame = scored.pandas()[["city", "price"]]
    assert cluster.predict("buys", frame).column("score") == scored.column("score")
    assert cluster.predict("buys", scored.polars().select("price", "city")).column("score") == scored.column("score")


def test_many_rows_keep_their_order(cluster: smack.Dev, run: smack.Run) -> None:
    prices = [float(at % 1000) / 10 for at in range(5000)]
    scored = cluster.predict("buys", {"price": prices, "city": ["it's 2"] * len(prices)})
    assert scored.column("price") == prices
    by_price: dict[float, set[float]] = {}
    for row in scored:
        by_price.setdefault(row["price"], set()).add(row["score"])
    assert all(len(scores) == 1 for scores in by_price.values())


def test_values_of_every_type_arrive_as_they_are(cluster: smack.Dev) -> None:
    """What `predict` sends is what the cluster reads, without a model in between."""
    from smack.literals import literal, type_name

    columns: dict[str, Any] = {
        "i": pa.array([-(2**63), 2**63 - 1, None], pa.int64()),
        "t": pa.array([-128, 127, None], pa.int8()),
        "u": pa.array([0, 2**32 - 1, None], pa.uint32()),
        "d": pa.array([0.1, -1.7976931348623157e308, None], pa.float64()),
        "f": pa.array([0.1, 1e30, None], pa.float32()),
        "s": pa.array(["it's", 'a "b"\n; -- ü🙂\\', None]),
        "b": pa.array([True, False, None]),
        "m": pa.array([decimal.Decimal("1.50"), decimal.Decimal("-12345678.90"), None], pa.decimal128(10, 2)),
        "w": pa.array([datetime.datetime(2026, 1, 2, 3, 4, 5, 678901), datetime.datetime(1969, 1, 1), None], pa.timestamp("us")),
        "y": pa.array([datetime.date(2026, 1, 2), datetime.date(1900, 1, 1), None]),
        "l": pa.array([[1.5, None], [], None], pa.list_(pa.float64())),
        "x": pa.array([b"\x00\xff", b"", None]),
    }
    for name, column in columns.items():
        kind = type_name(column.type)
        for value in column.to_pylist():
            rows = cluster.sql(f"SELECT CAST(v AS {kind}) AS v FROM (VALUES ({literal(value, kind)})) AS given(v)")
            got = rows[0]["v"]
            if isinstance(got, datetime.datetime):
                got = got.replace(tzinfo=None)
            assert got == value, (name, value, got)
    special = cluster.sql(f"SELECT {literal(float('nan'), 'DOUBLE')} AS n, {literal(float('-inf'), 'DOUBLE')} AS i")[0]
    assert special["n"] != special["n"] and special["i"] == float("-inf")


# The cluster ---------------------------------------------------------------------------------------------------------


def test_roles_and_agents(cluster: smack.Dev) -> None:
    assert [agent["id"] for agent in cluster.agents()] == ["agent-1", "agent-2"]
    cluster.set_weight("research", 2)
    cluster.set_quota("research", limit={"cpus": 0.5})
    role = next(role for role in cluster.roles() if role["role"] == "research")
    assert role["weight"] == 2 and role["limit"] == {"cpus": 0.5}
    cluster.remove_quota("research")
    cluster.drain("agent-2")
    assert next(agent for agent in cluster.agents() if agent["id"] == "agent-2")["state"] in ("draining", "drained")
    cluster.undrain("agent-2")
    assert cluster.offers() and "accepted" in {offer["state"] for offer in cluster.offers()}
    for listing in (cluster.jobs(), cluster.agents(), cluster.roles(), cluster.offers(), cluster.runs(), cluster.models()):
        assert "<table>" in listing._repr_html_() and repr(listing)
