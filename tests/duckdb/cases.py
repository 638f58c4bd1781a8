"""The SQL cases of `jobs/streaming/tests/slt`, answered by DuckDB: what the files hold, and streams give, is what it says.

Each case runs there as a stream in several ways, against the answer in the file, which DataFusion wrote. Here DuckDB
reads the same rows and answers the same text; only the table functions of windows are spelled out for it (`windows.py`).
A case that DuckDB does not take is skipped with its word, and one that it takes and means otherwise stands with its reason
in `differences.txt`. Everything else must be equal.

    SMACK_SLT_DATA=DIR cargo test --workspace --test slt        writes the tables
    python cases.py --data DIR [FILE…]
"""

import argparse
import collections
import datetime
import decimal
import glob
import json
import pathlib
import re
import sys

import duckdb
import windows

HERE = pathlib.Path(__file__).parent
SLT = HERE.parent.parent / "jobs/streaming/tests/slt"
# Fewer would mean that they are skipped for a reason that has nothing to do with them.
FEWEST = 550

SETTINGS = """
SET integer_division = true;
SET ieee_floating_point_ops = true;
SET default_null_order = 'nulls_last_on_asc_first_on_desc';
"""
# What our dialect has under another name. What DuckDB has under the same one is left to it.
MACROS = """
CREATE MACRO btrim(s) AS trim(s), (s, letters) AS trim(s, letters);
CREATE MACRO date_bin(stride, ts) AS time_bucket(stride, ts::TIMESTAMP, TIMESTAMP '1970-01-01'),
    (stride, ts, origin) AS time_bucket(stride, ts::TIMESTAMP, origin::TIMESTAMP);
CREATE MACRO make_array(a) AS [a], (a, b) AS [a, b], (a, b, c) AS [a, b, c], (a, b, c, d) AS [a, b, c, d];
CREATE MACRO nvl(a, b) AS coalesce(a, b);
CREATE MACRO octet_length(s) AS strlen(s);
CREATE MACRO regexp_like(s, pattern) AS regexp_matches(s, pattern);
CREATE MACRO signum(a) AS sign(a);
CREATE MACRO var(a) AS var_samp(a);
"""


class Skip(Exception):
    """Why a case cannot be compared."""


def records(text):
    """What a file holds: kind (`query`, `ok` or `error`), line, SQL, types, rows."""
    for block in re.finditer(r"(?:^[^\n]+\n)+", text, re.M):
        line = text.count("\n", 0, block.start()) + 1
        lines = [line for line in block[0].splitlines() if not line.startswith("#")]
        while lines and re.match("skipif|onlyif", lines[0]):
            lines.pop(0)
        if not lines:
            continue
        words = lines[0].split()
        if words[:2] == ["query", "error"]:
            yield "error", line, "\n".join(lines[1:]), "", []
        elif words[0] == "query":
            at = lines.index("----")
            yield "query", line, "\n".join(lines[1:at]), words[1], lines[at + 1:]
        elif words[0] == "statement":
            yield words[1], line, "\n".join(lines[1:]), "", []
        else:
            raise ValueError(f"line {line}: a record that begins with '{words[0]}'")


def duckdb_type(said):
    """STRUCT<a INT>, ARRAY<INT> and MAP<INT, INT> in DuckDB's words."""
    said = said.strip()
    nested = re.fullmatch(r"(ARRAY|STRUCT|MAP)\s*<(.*)>", said, re.I | re.S)
    if nested is None:
        return {"BYTES": "VARCHAR", "STRING": "VARCHAR"}.get(said.upper(), said)
    parts = windows.arguments(nested[2])
    if nested[1].upper() == "ARRAY":
        return duckdb_type(parts[0]) + "[]"
    if nested[1].upper() == "MAP":
        return f"MAP({', '.join(duckdb_type(part) for part in parts)})"
    fields = (part.split(None, 1) for part in parts)
    return f"STRUCT({', '.join(f'{name} {duckdb_type(of)}' for name, of in fields)})"


def declare(database, data, statement):
    """Makes a table of its own of what CREATE TABLE reads."""
    statement = re.sub(r"--[^\n]*", "", statement)
    name = re.match(r"\s*CREATE\s+TABLE\s+(\w+)", statement, re.I)[1]
    begin = statement.index("(")
    end = windows.closing(statement, begin)
    options = dict(re.findall(r"([\w.]+)\s*=\s*'([^']*)'", statement[end:]))
    columns, computed, key = {}, [], []
    for part in windows.arguments(statement[begin + 1:end]):
        if of_key := re.match(r"PRIMARY\s+KEY\s*\((.*)\)", part, re.I):
            key = [column.strip() for column in of_key[1].split(",")]
        elif not re.match("WATERMARK", part, re.I):
            column, rest = part.split(None, 1)
            if rest.upper().startswith("AS "):
                computed.append(f"{rest[3:]} AS {column}")
            else:
                columns[column] = re.sub(r"\s+(NOT\s+NULL|METADATA.*)$", "", rest, flags=re.I)
    files = sorted(glob.glob(str(data / options.get("path", options.get("name", name)) / "*.jsonl")))
    if not files or options.get("connector", "files") != "files":
        raise Skip(f"a table that lies nowhere: {name}")
    if options.get("changelog") == "debezium":
        files = [left_over(data, name, files, key or ["id"])]
    types = ", ".join(f"'{column}': '{duckdb_type(of)}'" for column, of in columns.items())
    bytes_ = [f"unhex({column}) AS {column}" for column, of in columns.items() if of.upper() == "BYTES"]
    replaced = f"REPLACE ({', '.join(bytes_)})" if bytes_ else ""
    database.execute(
        f"CREATE OR REPLACE TABLE {name} AS SELECT * {replaced} {''.join(', ' + column for column in computed)} "
        f"FROM read_json({files}, format = 'newline_delimited', columns = {{{types}}})")


def left_over(data, name, files, key):
    """A file with the rows that Debezium's changes leave: the last word on each key."""
    rows = {}
    for file in files:
        for line in pathlib.Path(file).read_text().splitlines():
            change = json.loads(line)
            change = change.get("payload", change)
            row = change["after"] or change["before"]
            rows[tuple(row[column] for column in key)] = change["after"]
    file = data / f"{name}.left"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows.values() if row is not None))
    return str(file)


def cell(value, top=True):
    """A value as the files hold it."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime.datetime):
        fraction = f".{value.microsecond:06}" if value.microsecond % 1000 else f".{value.microsecond // 1000:03}"
        return f"{value:%Y-%m-%dT%H:%M:%S}{fraction if value.microsecond else ''}Z"
    if isinstance(value, datetime.timedelta):
        seconds = f"{value.total_seconds():f}".rstrip("0").rstrip(".")
        return f"PT{seconds}S"
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{cell(name, False)}: {cell(of, False)}" for name, of in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(cell(of, False) for of in value) + "]"
    if isinstance(value, decimal.Decimal):
        return f"{value:f}"
    return str(value) or ("(empty)" if top else "")


def same(ours, theirs):
    """Whether two lines say the same: numbers with a fraction may differ in their last digits."""
    ours, theirs = (re.split(r"([ ,:\[\]{}]+)", line) for line in (ours, theirs))
    return len(ours) == len(theirs) and all(a == b or close(a, b) for a, b in zip(ours, theirs))


def close(ours, theirs):
    try:
        a, b = float(ours), float(theirs)
    except ValueError:
        return False
    # An average of decimals has so many digits with us, and is a floating number in DuckDB.
    digits = len(ours.partition(".")[2])
    return a == b or abs(a - b) <= max(1e-9 * max(abs(a), abs(b)), 10.0 ** -digits if digits == 6 else 0)


def differences(ours, theirs):
    """Lines of one side that are not on the other."""
    missing = collections.Counter(theirs)
    missing.subtract(ours)
    only_ours = [line for line, n in missing.items() for _ in range(-n)]
    only_theirs = [line for line, n in missing.items() for _ in range(n)]
    for line in list(only_ours):
        twin = next((other for other in only_theirs if same(line, other)), None)
        if twin is not None:
            only_ours.remove(line)
            only_theirs.remove(twin)
    return only_ours, only_theirs


def spelled(sql):
    """The same for DuckDB: windows, bytes, and a name that is a word of its own there."""
    sql = re.sub(r"\bX'([0-9A-Fa-f]*)'", r"unhex('\1')", sql)
    return re.sub(r'(?<!")\bat\b(?!")', '"at"', windows.spelled(sql))


def answer(database, sql, n_columns):
    try:
        result = database.execute(spelled(sql))
        rows = result.fetchall()
    except windows.Unknown as error:
        raise Skip(f"windows that are not spelled out: {error}") from error
    except duckdb.Error as error:
        raise Skip(reason(error)) from error
    if len(result.description) != n_columns:
        raise Skip(f"DuckDB gives {len(result.description)} columns, not {n_columns}")
    return [" ".join(cell(value) for value in row) for row in rows]


def reason(error):
    """The first line, without what differs from case to case."""
    line = str(error).splitlines()[0]
    return "DuckDB: " + re.sub(r'"[^"]*"', "…", line)[:110]


def known():
    """Cases that DuckDB means otherwise: file and the beginning of the SQL, by which they are found, and why."""
    found = {}
    for line in (HERE / "differences.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            case, _, why = line.partition("  # ")
            assert why, f"differences.txt: no reason in the line '{line}'"
            file, _, begin = case.partition(": ")
            found[(file, begin.strip())] = why.strip()
    return found


def one_line(sql):
    return " ".join(sql.split())


class Tally:
    def __init__(self):
        self.compared, self.wrong, self.skipped, self.unused = 0, 0, collections.defaultdict(list), known()

    def difference(self, file, sql):
        """Why DuckDB may answer this otherwise."""
        case = next((case for case in self.unused if case[0] == file and one_line(sql).startswith(case[1])), None)
        return self.unused.pop(case) if case else None


def check_file(path, data, tally):
    # One thread, for what depends on the order of rows (which of two that come equally often is the mode) to be one answer.
    database = duckdb.connect(config={"threads": 1})
    database.execute(SETTINGS + MACROS)
    for statement in (SLT / "prelude.sql").read_text().split(";\n"):
        if "CREATE TABLE" in statement and "blackhole" not in statement and "'kept'" not in statement:
            declare(database, data, statement)
        elif "CREATE VIEW" in statement:
            database.execute(statement)
    for kind, line, sql, types, rows in records(path.read_text() + "\n"):
        place = f"{path.stem}.slt:{line}"
        try:
            if kind == "error":
                raise Skip("a refusal of ours")
            if kind == "ok" and re.match(r"\s*CREATE\s+TABLE", sql, re.I):
                declare(database, data, sql)
            elif kind == "ok" and re.match(r"\s*CREATE\s+VIEW", sql, re.I):
                database.execute(spelled(re.sub("VIEW", "OR REPLACE VIEW", sql, count=1, flags=re.I)))
            elif kind == "query":
                theirs = answer(database, sql, len(types))
                only_ours, only_theirs = differences(rows, theirs)
                if (only_ours or only_theirs) and (why := tally.difference(path.stem, sql)):
                    raise Skip(f"another meaning: {why}")
                tally.compared += 1
                if only_ours or only_theirs:
                    tally.wrong += 1
                    print(f"{place}: {one_line(sql)}\n  only ours: {only_ours[:5]}\n  only DuckDB's: {only_theirs[:5]}")
        except Skip as skip:
            tally.skipped[str(skip)].append(place)
        except windows.Unknown as error:
            tally.skipped[f"windows that are not spelled out: {error}"].append(place)
        except duckdb.Error as error:
            tally.skipped[reason(error)].append(place)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("files", nargs="*")
    asked = parser.parse_args()
    tally = Tally()
    for path in sorted((SLT / "cases").glob("*.slt")):
        if not asked.files or path.stem in asked.files:
            check_file(path, asked.data, tally)
    for why, places in sorted(tally.skipped.items(), key=lambda skipped: -len(skipped[1])):
        print(f"{len(places):>4} skipped, {why}: {', '.join(places[:6])}{', …' if len(places) > 6 else ''}")
    for (file, begin), _ in ({} if asked.files else tally.unused).items():
        print(f"differences.txt: {file}: {begin} … is not there, or does not differ: take it out")
    if tally.wrong:
        sys.exit(f"{tally.wrong} of {tally.compared} cases differ from DuckDB {duckdb.__version__}")
    n_skipped = sum(map(len, tally.skipped.values()))
    print(f"{tally.compared} cases agree with DuckDB {duckdb.__version__}, {n_skipped} are skipped")
    if not asked.files and tally.compared < FEWEST:
        sys.exit(f"{tally.compared} cases were compared, and {FEWEST} are the least")


if __name__ == "__main__":
    main()
