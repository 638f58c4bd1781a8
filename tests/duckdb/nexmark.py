"""The queries of Nexmark, answered by `smack run` as streams and by DuckDB at once, over the same events.

The generator's events are written to Parquet by `smack run`. DuckDB reads them and answers the queries of `nexmark/`, which
are written from what Nexmark says of each and share nothing with `examples/nexmark` but the names of columns. What a
stream says is added up: a row that came counts 1, one that was taken back -1, and the sums are the rows of the answer.

    python nexmark.py --smack PATH [--events N] [QUERY…]
"""

import argparse
import concurrent.futures
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import duckdb

HERE = pathlib.Path(__file__).parent
EXAMPLES = HERE.parent.parent / "examples/nexmark"
TABLES = ("person", "auction", "bid")
# Few events to the second, so that there are several windows; and so few where days and hours matter that there are some.
RATE, RATE_OF_DAYS = 200, 1
OF_DAYS = (10, 14, 15, 16, 17)
ON_THE_CLOCK = 12
# A slice is a thread with every operator, so two have exchanges between them.
SLICES = 2


def run(smack, folder, text, out):
    """Runs a job file to its end; what it prints goes to `out`."""
    file = out.with_suffix(".sql")
    file.write_text(text)
    with open(out, "w") as stream:
        ran = subprocess.run(
            [smack, "run", file, "--quiet", "--slices", str(SLICES)], cwd=folder, stdout=stream, stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL, text=True)
    assert ran.returncode == 0, f"{file.name}: {ran.stderr}"


def over(text, events, rate):
    of_examples = "events = '1000000'"
    assert of_examples in text, text
    return text.replace(of_examples, f"events = '{events}', event.rate = '{rate}'")


def write_events(smack, folder, events, rate):
    """A Parquet folder per table, below `events-RATE`."""
    tables = over((EXAMPLES / "tables.sql").read_text(), events, rate)
    jobs = []
    for table in TABLES:
        declared = re.search(rf"CREATE TABLE {table} \((.*?)\n\) WITH", tables, re.S)[1]
        columns = declared[:declared.index(",\n  WATERMARK")]
        jobs.append(f"CREATE TABLE {table}_file ({columns}\n)\n"
                    f"WITH (connector = 'files', path = 'events-{rate}/{table}', format = 'parquet');\n"
                    f"INSERT INTO {table}_file SELECT * FROM {table};\n")
    run(smack, folder, tables + "".join(jobs), folder / f"events-{rate}.out")


def load(folder, rate):
    """A database with the tables of Nexmark, and DuckDB's own reading of the side input."""
    database = duckdb.connect(config={"preserve_insertion_order": False})
    for table in TABLES:
        # Times are of UTC, whatever zone the machine is in; without an extension DuckDB knows no zones.
        times = [f"make_timestamp(epoch_us({column})) AS {column}"
                 for column in ("dateTime", "expires") if table == "auction" or column == "dateTime"]
        database.execute(
            f"CREATE TABLE {table} AS SELECT * REPLACE ({', '.join(times)}) "
            f"FROM read_parquet('{folder}/events-{rate}/{table}/*.parquet')")
    database.execute(f"CREATE TABLE side_input AS FROM read_csv('{EXAMPLES}/side_input.csv')")
    return database


def streamed(smack, folder, events, number):
    """Has the query's rows printed; the file they are in, and how long that took."""
    text = over((EXAMPLES / f"q{number}.sql").read_text(), events, RATE_OF_DAYS if number in OF_DAYS else RATE)
    text, n = re.subn(r"(CREATE TABLE result \(.*?\n\) WITH) \(.*?\);", r"\1 (connector = 'stdout');", text, flags=re.S)
    assert n == 1, text
    began, out = time.monotonic(), folder / f"q{number}.out"
    run(smack, folder, text, out)
    return out, time.monotonic() - began


def compare(database, number, out):
    """Fails unless what was printed adds up to DuckDB's answer; how many rows that has, and how many were printed."""
    database.execute(f"CREATE OR REPLACE TEMP TABLE wanted AS {(HERE / f'nexmark/q{number}.sql').read_text()}")
    columns = {name: kind for name, kind, *_ in database.execute("DESCRIBE wanted").fetchall()}
    if number == ON_THE_CLOCK:
        columns |= {"starttime": "TIMESTAMP", "endtime": "TIMESTAMP"}
    # A field that is printed and not expected has no place here, and is an error.
    printed = first_fields(out)
    assert not printed or printed == ["op", *columns] or printed == list(columns), \
        f"q{number} has the columns {printed}, not {list(columns)}"
    types = ", ".join(f"'{name}': '{kind}'" for name, kind in {"op": "VARCHAR", **columns}.items())
    database.execute(
        "CREATE OR REPLACE TEMP TABLE printed AS SELECT * EXCLUDE (op), CASE op WHEN '-' THEN -1 ELSE 1 END AS weight "
        f"FROM read_json('{out}', format = 'newline_delimited', columns = {{{types}}})")
    if number == ON_THE_CLOCK:
        add_windows_up(database)
    names = [name for name, *_ in database.execute("DESCRIBE wanted").fetchall()]
    differences = database.execute(
        f"SELECT {', '.join(names)}, sum(weight) AS n "
        "FROM (SELECT * FROM printed UNION ALL BY NAME SELECT *, -1 AS weight FROM wanted) "
        "GROUP BY ALL HAVING n <> 0 ORDER BY ALL LIMIT 10").fetchall()
    n_rows = database.execute("SELECT count(*) FROM wanted").fetchone()[0]
    assert not differences, f"q{number} differs (n > 0: printed more often than DuckDB has it):\n" + \
        "\n".join(str(row) for row in differences)
    assert n_rows > 0, f"q{number} has no rows"
    return n_rows, database.execute("SELECT count(*) FROM printed").fetchone()[0]


def first_fields(out):
    with open(out) as lines:
        line = lines.readline()
    return re.findall(r'[{,]"(\w+)":', re.sub(r':"(\\.|[^"\\])*"', ":0", line))


def add_windows_up(database):
    """Each window is a whole one, and is told once; then the sum over all windows of a bidder is what is compared."""
    odd = database.execute(
        "SELECT bidder, starttime, endtime, sum(weight) AS n FROM printed GROUP BY ALL "
        "HAVING n <> 1 OR endtime - starttime <> INTERVAL 10 SECONDS OR epoch_ms(starttime) % 10000 <> 0").fetchall()
    assert not odd, f"windows that are not of 10 seconds, or are told twice: {odd[:5]}"
    database.execute(
        "CREATE OR REPLACE TEMP TABLE printed AS SELECT bidder, sum(bid_count)::BIGINT AS bid_count, 1 AS weight "
        "FROM printed GROUP BY bidder")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--smack", type=pathlib.Path, required=True)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("queries", type=int, nargs="*", default=range(23))
    asked = parser.parse_args()
    smack, began, wrong = asked.smack.resolve(), time.monotonic(), []
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(1) as ahead:
        folder = pathlib.Path(folder)
        (folder / "side_input.csv").write_bytes((EXAMPLES / "side_input.csv").read_bytes())
        databases = {}
        for rate in (RATE, RATE_OF_DAYS):
            write_events(smack, folder, asked.events, rate)
            databases[rate] = load(folder, rate)
        # One stream runs ahead of what is compared, and no more of them, since their rows lie on disk until then.
        streams = [(number, ahead.submit(streamed, smack, folder, asked.events, number)) for number in asked.queries]
        for number, stream in streams:
            out, seconds = stream.result()
            try:
                n_rows, n_printed = compare(databases[RATE_OF_DAYS if number in OF_DAYS else RATE], number, out)
                print(f"q{number}: {n_rows} rows, of {n_printed} that were printed in {seconds:.1f} s", flush=True)
            except AssertionError as error:
                wrong.append(number)
                print(error, flush=True)
            out.unlink()
    if wrong:
        sys.exit(f"{len(wrong)} queries of Nexmark differ from DuckDB: {', '.join(f'q{n}' for n in wrong)}")
    print(f"{len(streams)} queries of Nexmark over {asked.events} events: streams and DuckDB {duckdb.__version__} agree, "
          f"in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
