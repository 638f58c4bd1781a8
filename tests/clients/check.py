"""What others' clients make of a cluster; see `run`.

    python check.py DIR      where `smack dev --token-file token` was started
"""

import datetime
import decimal
import json
import os
import pathlib
import sys
import urllib.request

import adbc_driver_flightsql
import adbc_driver_flightsql.dbapi as dbapi
import polars
from prometheus_client.parser import text_string_to_metric_families

import smack

FILE = """
SET job.name = 'fills';
CREATE TABLE rolls (id BIGINT, a BIGINT, x DOUBLE) WITH (connector = 'datagen', rows = '20000',
    fields.id.kind = 'sequence', fields.a.min = '0', fields.a.max = '99');
CREATE TABLE kept (a BIGINT PRIMARY KEY, n BIGINT, name VARCHAR, ok BOOLEAN, mean DOUBLE, price DECIMAL(10, 2),
    at TIMESTAMP, on_day DATE);
INSERT INTO kept SELECT a, COUNT(*), CONCAT('key ', CAST(a AS VARCHAR)), a > 50, AVG(x), CAST(a AS DECIMAL(10, 2)) AS price,
    TIMESTAMP '2026-03-01 10:00:00', DATE '2026-03-01' FROM rolls GROUP BY a;
"""


def checked(what):
    print(f"ok: {what}")


def main():
    folder = pathlib.Path(sys.argv[1])
    os.chdir(folder)
    (folder / "fills.sql").write_text(FILE)
    cluster = smack.connect(token_file="token")
    cluster.wait(cluster.submit("fills.sql"))
    token = (folder / "token").read_text().strip()
    flight_sql(cluster.runner, token)
    own_client(cluster)
    metrics(cluster.runner, token)


def flight_sql(runner, token):
    address = runner.replace("http://", "grpc://")
    options = adbc_driver_flightsql.DatabaseOptions
    try:
        dbapi.connect(address).cursor().execute("SELECT 1 AS a")
        raise AssertionError("a stranger was let in")
    except dbapi.Error as error:
        assert "token" in str(error), error
    checked("a stranger is refused")
    with dbapi.connect(address, db_kwargs={options.AUTHORIZATION_HEADER.value: f"Bearer {token}"}) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM kept ORDER BY a")
            table = cursor.fetch_arrow_table()
        assert table.num_rows == 100 and sum(table["n"].to_pylist()) == 20000, table
        row = table.slice(3, 1).to_pylist()[0]
        assert (row["name"], row["ok"], str(row["price"]), str(row["on_day"])) == ("key 3", False, "3.00", "2026-03-01"), row
        assert row["at"].isoformat() == "2026-03-01T10:00:00+00:00", row
        checked("every type through ADBC's cursor")
        assert table.to_pandas()["n"].sum() == 20000
        frame = polars.read_database("SELECT ok, SUM(n) AS n FROM kept GROUP BY ok ORDER BY ok", connection)
        assert frame["n"].sum() == 20000 and frame["ok"].to_list() == [False, True], frame
        checked("pandas and polars")
        objects = connection.adbc_get_objects(depth="columns").read_all().to_pylist()
        tables = objects[0]["catalog_db_schemas"][0]["db_schema_tables"]
        assert [table["table_name"] for table in tables] == ["kept"], objects
        assert [column["column_name"] for column in tables[0]["table_columns"]][:2] == ["a", "n"], tables
        assert connection.adbc_get_info()["vendor_name"] == "smack"
        assert connection.adbc_get_table_schema("kept").names[:3] == ["a", "n", "name"]
        assert connection.adbc_get_table_types() == ["TABLE"]
        checked("tables, columns and what the server is")
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE many (id BIGINT) WITH (connector = 'datagen', rows = '300000', "
                           "fields.id.kind = 'sequence'); SELECT id, id * 2 AS twice FROM many")
            batches = cursor.fetch_record_batch()
            assert sum(batch.num_rows for batch in batches) == 300000
        checked("many rows, batch by batch, of a table of the query's own")
        with connection.cursor() as cursor:
            asked = "SELECT a, name FROM kept WHERE a >= ? AND a < ? AND on_day = ? AND ok = ? ORDER BY a LIMIT ?"
            for low, n in [(60, 2), (70, 3)]:
                cursor.execute(asked, (low, 90.5, datetime.date(2026, 3, 1), True, n))
                assert cursor.fetchall() == [(a, f"key {a}") for a in range(low, low + n)], low
            cursor.execute("SELECT $2 AS b, $1 AS a, COUNT(*) AS n FROM kept WHERE name = $1", ("key 7", None))
            assert cursor.fetchall() == [(None, "key 7", 1)]
        checked("parameters")
        for wrong, said in [
            ("SELECT a FROM kept WHERE a = ?", "$1 has no value"),
            ("INSERT INTO kept SELECT 1, 2, 'c', true, 0.5, 1, NULL, NULL", "smack submit"),
            ("SELECT nn FROM kept", "'n'"),
            ("SELECT 1 / a FROM kept", None),
        ]:
            with connection.cursor() as cursor:
                try:
                    cursor.execute(wrong)
                    cursor.fetchall()
                    assert said is None, wrong
                except dbapi.Error as error:
                    assert said is None or said in str(error), error
        checked("mistakes come back as errors")


def own_client(cluster):
    rows = cluster.sql("SELECT name, n > 0 AS some FROM kept WHERE a < 3 ORDER BY a")
    assert rows.arrow().to_pydict() == {"name": ["key 0", "key 1", "key 2"], "some": [True] * 3}, rows
    assert len(cluster.sql("SELECT a FROM kept WHERE a < 0")) == 0
    asked = cluster.sql(
        "SELECT a FROM kept WHERE at = ? AND price <= ? AND mean >= ? AND name LIKE ? AND ok = ? ORDER BY a",
        [datetime.datetime(2026, 3, 1, 10), decimal.Decimal("60.5"), -1.5, "key %", True],
    )
    assert asked.arrow()["a"].to_pylist() == list(range(51, 61)), asked
    try:
        cluster.sql("SELECT a FROM kept WHERE a = ?", ["seven"])
        raise AssertionError("a text was taken for a number")
    except smack.Refused as error:
        assert "'seven', given for the parameter $1, is no BIGINT" in str(error), error
    assert polars.DataFrame(rows).equals(rows.polars())
    try:
        cluster.sql("SELECT a FROM kepd")
        raise AssertionError("no table of that name")
    except smack.Refused as error:
        assert "kept" in str(error) and "^^^^" in str(error), error
    try:
        smack.connect(cluster.runner)
        raise AssertionError("a stranger was let in")
    except smack.Refused as error:
        assert "token" in str(error), error
    checked("our own package")


def metrics(runner, token):
    def asked(url):
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
        return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30).read().decode()

    roles = set()
    for target in json.loads(asked(f"{runner}/api/v1/targets")):
        families = list(text_string_to_metric_families(asked(f"http://{target['targets'][0]}/metrics")))
        assert len(families) > 15 and all(family.documentation for family in families), families
        roles.add(target["labels"]["role"])
    assert roles == {"master", "agent", "runner"}, roles
    checked("Prometheus' parser reads every member")


if __name__ == "__main__":
    main()
