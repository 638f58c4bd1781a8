"""Table functions of windows, said in plain SQL: where a time falls is arithmetic, and sessions are found by looking back.

Written from what the functions promise: `TUMBLE` gives each row the one window it is in, `HOP` a copy for every window,
`CUMULATE` a copy for each prefix of its window that holds it, and `SESSION` the span of the rows of a partition each of
which is less than the gap behind the one before. Rows without a time are in no window.
"""

import re

# Windows begin at whole multiples of their width since then, whichever week or month that is.
ORIGIN = "TIMESTAMP '1970-01-01'"
# The last moment of a window, at the precision at which event times are told.
BOUNDS = "window_end - INTERVAL '1 millisecond' AS window_time"


class Unknown(Exception):
    """What a table function says is not understood here."""


def closing(text, at):
    """Where the parenthesis that opens at `at` closes; quotes are heeded."""
    depth, quoted = 0, False
    for i in range(at, len(text)):
        if text[i] == "'":
            quoted = not quoted
        elif not quoted:
            depth += (text[i] == "(") - (text[i] == ")")
            if depth == 0:
                return i
    raise Unknown("a parenthesis does not close")


def arguments(text):
    """What stands between commas at the top."""
    found, begin, depth, quoted = [], 0, 0, False
    for i, letter in enumerate(text):
        if letter == "'":
            quoted = not quoted
        elif not quoted:
            depth += (letter in "(<[") - (letter in ")>]")
            if letter == "," and depth == 0:
                found.append(text[begin:i].strip())
                begin = i + 1
    return [*found, text[begin:].strip()]


def spelled(sql):
    """The same with `TABLE(FUNCTION(…))` written out as subqueries."""
    while (found := re.search(r"\bTABLE\s*\(\s*(TUMBLE|HOP|CUMULATE|SESSION)\s*\(", sql, re.I)) is not None:
        inner = closing(sql, found.end() - 1)
        outer = closing(sql, sql.index("(", found.start()))
        said = sql[found.end():inner]
        # Behind it stands a name, or none; DuckDB wants none either.
        sql = sql[:found.start()] + subquery(found[1].upper(), arguments(said)) + sql[outer + 1:]
    return sql


def subquery(function, said):
    # Commas stand between columns of PARTITION BY, too.
    while len(said) > 1 and re.match(r"TABLE\s.*PARTITION", said[0], re.I | re.S) and not re.match("DESCRIPTOR", said[1], re.I):
        said = [f"{said[0]}, {said[1]}", *said[2:]]
    named = {}
    for place, argument in enumerate(said):
        name, arrow, value = argument.partition("=>")
        named[name.strip().upper() if arrow else place] = value.strip() if arrow else argument
    table = re.fullmatch(r"TABLE\s+(\w+)(?:\s+PARTITION\s+BY\s+(.*))?", named.get(0, named.get("DATA", "")), re.I | re.S)
    time = re.fullmatch(r"DESCRIPTOR\s*\(\s*(\w+)\s*\)", named.get(1, named.get("TIMECOL", "")), re.I)
    spans = [argument for name, argument in named.items() if name not in (0, 1, "DATA", "TIMECOL")]
    if table is None or time is None or not all(re.match("INTERVAL", span, re.I) for span in spans):
        raise Unknown(f"{function}({', '.join(said)})")
    source, partition, time = table[1], table[2], f'"{time[1]}"'
    there = f"FROM {source} WHERE {time} IS NOT NULL"
    if function == "TUMBLE" and len(spans) in (1, 2):
        origin = ORIGIN if len(spans) == 1 else f"{ORIGIN} + {spans[1]}"
        starts = f"SELECT *, time_bucket({spans[0]}, {time}, {origin}) AS window_start {there}"
        return f"(SELECT *, window_start + {spans[0]} AS window_end, {BOUNDS} FROM ({starts}))"
    if function == "HOP" and len(spans) in (2, 3):
        slide, width, origin = spans[0], spans[1], ORIGIN if len(spans) == 2 else f"{ORIGIN} + {spans[2]}"
        newest = f"time_bucket({slide}, {time}, {origin})"
        starts = f"SELECT *, unnest(generate_series({newest}, {newest} - {width}, -({slide}))) AS window_start {there}"
        ends = f"SELECT *, window_start + {width} AS window_end FROM ({starts})"
        return f"(SELECT *, {BOUNDS} FROM ({ends}) WHERE {time} < window_end)"
    if function == "CUMULATE" and len(spans) == 2:
        step, width = spans
        starts = f"SELECT *, time_bucket({width}, {time}, {ORIGIN}) AS window_start {there}"
        ends = (f"SELECT *, unnest(generate_series(window_start + {step}, window_start + {width}, {step})) AS window_end "
                f"FROM ({starts})")
        return f"(SELECT *, {BOUNDS} FROM ({ends}) WHERE {time} < window_end)"
    if function == "SESSION" and len(spans) == 1:
        over = f"PARTITION BY {partition} " if partition else ""
        begins = (f"SELECT *, coalesce({time} >= lag({time}) OVER ({over}ORDER BY {time}) + {spans[0]}, true) AS begins_ "
                  f"{there}")
        numbered = (f"SELECT *, count(*) FILTER (WHERE begins_) OVER ({over}ORDER BY {time} RANGE UNBOUNDED PRECEDING) "
                    f"AS session_ FROM ({begins})")
        of = f"OVER (PARTITION BY {partition + ', ' if partition else ''}session_)"
        bounds = f"SELECT *, min({time}) {of} AS window_start, max({time}) {of} + {spans[0]} AS window_end FROM ({numbered})"
        return f"(SELECT * EXCLUDE (begins_, session_), {BOUNDS} FROM ({bounds}))"
    raise Unknown(f"{function} with {len(spans)} intervals")
