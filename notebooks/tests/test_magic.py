"""`%%smack` in a shell of IPython."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

import smack

from .conftest import Fake, arrow_stream, batch, begin_chunks, chunk
from .test_cluster import job


@pytest.fixture
def shell(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    shell = InteractiveShell()
    shell.run_cell("%load_ext smack")
    yield shell
    shell.history_manager.end_session()


def run(shell: InteractiveShell, cell: str) -> tuple[Any, str]:
    """What a cell gives, and what it shows besides."""
    with capture_output() as shown:
        result = shell.run_cell(cell)
    return result, shown.stdout + shown.stderr


def test_a_cell_that_asks_gives_its_rows(fake: Fake, cluster: smack.Cluster, shell: InteractiveShell) -> None:
    fake.on("POST", "/api/v1/sql", b"".join(arrow_stream(batch(a=[1, 2]))))
    result, _ = run(shell, "%%smack --out kept\nSELECT a\nFROM t")
    assert isinstance(result.result, smack.Rows) and shell.user_ns["kept"] is result.result
    assert fake.asked[-1][2] == {"sql": "SELECT a\nFROM t\n"}
    result, _ = run(shell, "%smack SELECT 'it''s  ' AS a")
    assert len(result.result) == 2 and fake.asked[-1][2]["sql"].startswith("SELECT 'it''s")


def test_a_cell_that_writes_is_submitted(fake: Fake, cluster: smack.Cluster, shell: InteractiveShell) -> None:
    fake.on("POST", "/api/v1/jobs", (201, {"group": "mine", "jobs": ["mine/t"]}))
    fake.on("GET", "/api/v1/jobs", {"jobs": [job("mine/t", "finished")]})
    result, _ = run(shell, "%%smack --name mine --wait --out group\nINSERT INTO t SELECT 1")
    assert [one["id"] for one in result.result] == ["mine/t"] and shell.user_ns["group"] == "mine"
    assert fake.asked[-2][2]["file"] == "mine.sql"


def test_a_cell_watches_what_never_ends(fake: Fake, cluster: smack.Cluster, shell: InteractiveShell) -> None:
    def answer(handler: Any) -> None:
        begin_chunks(handler, changes=True)
        first = batch(op=["+I", "+I"], a=["<b>", "y"], n=[1, 1])
        for piece in arrow_stream(first, batch(op=["-U", "+U"], a=["<b>", "<b>"], n=[1, 2])):
            chunk(handler, piece)
        handler.wfile.write(b"0\r\n\r\n")

    fake.on("POST", "/api/v1/sql/stream", lambda _: answer)
    result, shown = run(shell, "%%smack --seconds 5 --out now\nSELECT a, COUNT(*) AS n FROM t GROUP BY a")
    assert result.success and result.result is None
    assert sorted(shell.user_ns["now"].arrow().to_pydict()["n"]) == [1, 2]
    assert "2 rows after 4 changes" in shown


def test_a_mistake_is_shown_without_a_traceback(fake: Fake, cluster: smack.Cluster, shell: InteractiveShell) -> None:
    told = {"error": "e", "diagnostics": [{"message": "unknown column 'nn'", "span": [7, 9], "help": "did you mean 'n'?"}]}
    fake.on("POST", "/api/v1/sql", (422, told))
    result, shown = run(shell, "%%smack\nSELECT nn FROM t")
    # The cell has failed, so a notebook that is run as a whole stops here.
    assert isinstance(result.error_in_exec, smack.Refused)
    assert shown == (
        "  error: unknown column 'nn'\n   ╭─[query:1:8]\n 1 │ SELECT nn FROM t\n   ·        ^^\n   ╰────\n"
        "  help: did you mean 'n'?\nerror: 1 mistake in query\n"
    )
    _, shown = run(shell, "import smack\nsmack.connect('ftp://x')")
    assert shown.splitlines()[0] == "line 2: smack.connect('ftp://x')"
    assert "Traceback" not in shown and len(shown.splitlines()) == 2


def test_a_query_without_an_end_is_told_how_to_watch_it(fake: Fake, cluster: smack.Cluster, shell: InteractiveShell) -> None:
    told = {"message": "'t' never ends, and this query needs all of its rows", "span": [0, 6], "help": "write INSERT INTO"}
    fake.on("POST", "/api/v1/sql", (422, {"error": "e", "diagnostics": [told]}))
    _, shown = run(shell, "%%smack\nSELECT a FROM t")
    assert "'t' never ends" in shown and "%%smack --seconds 10" in shown


def test_options_that_are_wrong_are_told(cluster: smack.Cluster, shell: InteractiveShell) -> None:
    for line, words in [
        ("--secnds 3", "unrecognized arguments: --secnds"),
        ("--seconds soon", "invalid float value: 'soon'"),
        ("--out not-a-name", "no name of a variable"),
        ("--on nowhere", "no variable 'nowhere' that holds a cluster"),
    ]:
        result, shown = run(shell, f"%%smack {line}\nSELECT 1")
        assert words in shown and "Traceback" not in shown and result.error_in_exec is not None


def test_a_cluster_is_named_or_the_latest(fake: Fake, cluster: smack.Cluster, shell: InteractiveShell) -> None:
    fake.on("POST", "/api/v1/sql", b"".join(arrow_stream(batch(a=[1]))))
    shell.user_ns["first"] = cluster
    other = Fake()
    smack.connect(other.url)
    assert run(shell, "%%smack\nSELECT 1")[0].error_in_exec is not None
    assert len(run(shell, "%%smack --on first\nSELECT 1")[0].result) == 1
    other.server.shutdown()
    other.server.server_close()
