"""What is asked of the runner, and what becomes of its answers."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import smack
from smack import address

from .conftest import Fake, arrow_stream, batch


def job(name: str, state: str, **more: Any) -> dict[str, Any]:
    metrics = dict.fromkeys(["rows_in", "rows_out", "rows_late", "rows_bad", "rows_per_second", "step", "steps_total"], 0)
    figures: dict[str, Any] = metrics | dict.fromkeys(["loss", "metric", "model_version"])
    given = {
        "id": name,
        "group": name.split("/")[0],
        "name": name.split("/")[1],
        "kind": "stream",
        "state": state,
        "why": f"is {state}",
        "tasks": [],
    }
    return given | {"metrics": figures, "parallelism": 1, "restarts": 0, "events": []} | more


# Versions, addresses, tokens -----------------------------------------------------------------------------------------


def test_a_runner_of_another_api_is_refused_with_what_fits(fake: Fake) -> None:
    fake.on("GET", "/api/v1/version", {"version": "3.1.4", "api": "v2"})
    with pytest.raises(smack.WrongVersion) as told:
        smack.connect(fake.url)
    for words in ("smack 3.1.4", "API v2", "speaks API v1", f"fits smack {smack.__version__}", "pip install ./notebooks", fake.url):
        assert words in str(told.value)


def test_another_version_of_the_same_api_fits(fake: Fake) -> None:
    fake.on("GET", "/api/v1/version", {"version": "0.9.0", "api": "v1"})
    assert smack.connect(fake.url).version == "0.9.0"


@pytest.mark.parametrize("answer", [(404, {"error": "nothing"}), (404, b"<html>"), {"hello": 1}, ["a"]])
def test_what_is_no_runner_is_refused(fake: Fake, answer: Any) -> None:
    fake.on("GET", "/api/v1/version", answer)
    with pytest.raises(smack.WrongVersion, match="no smack that says its version"):
        smack.connect(fake.url)


def test_nobody_there_is_said_with_the_way_out() -> None:
    # A port that was free a moment ago: bound and let go.
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(smack.Unreachable) as told:
        smack.connect(url)
    assert "smack dev" in str(told.value) and "refused" in str(told.value) and url in str(told.value)
    assert isinstance(told.value, ConnectionError)


def test_the_runner_is_found_as_the_command_line_finds_it(fake: Fake, monkeypatch: pytest.MonkeyPatch, alone: Path) -> None:
    assert address.find().url == address.USUAL
    (alone / ".smack").mkdir()
    (alone / ".smack/dev.json").write_text(json.dumps({"runner": "http://127.0.0.1:4711", "kafka": "127.0.0.1:9"}))
    assert address.find().url == "http://127.0.0.1:4711"
    monkeypatch.setenv("SMACK_RUNNER", fake.url)
    assert smack.connect().runner == fake.url
    assert address.find("host:1").url == "http://host:1"
    assert address.find("host:1/base/").path == "/base"
    assert address.find("host:1", tls_ca="ca.pem").url == "https://host:1"
    monkeypatch.setenv("SMACK_TLS_CA", "ca.pem")
    assert address.find("host:1") == address.Address("https://host:1", None, Path("ca.pem"))
    for wrong in ("ftp://x", "http://", "http://x:port"):
        with pytest.raises(smack.SmackError, match="must look like http://host:port"):
            address.find(wrong)


def test_the_token_is_shown_to_the_runner_and_to_nobody_else(fake: Fake, monkeypatch: pytest.MonkeyPatch, alone: Path) -> None:
    (alone / "token").write_text("s3cret\n")
    cluster = smack.connect(fake.url, "token")
    assert fake.headers[-1]["Authorization"] == "Bearer s3cret"
    assert "s3cret" not in repr(cluster) + repr(cluster._http.address)
    monkeypatch.setenv("SMACK_TOKEN_FILE", "token")
    smack.connect(fake.url)
    assert fake.headers[-1]["Authorization"] == "Bearer s3cret"
    with pytest.raises(smack.SmackError, match="failed to read the token file nowhere"):
        smack.connect(fake.url, "nowhere")


def test_a_missing_token_is_said_with_the_way_out(fake: Fake) -> None:
    fake.on("GET", "/api/v1/version", (401, b""))
    with pytest.raises(smack.Refused, match="answered 401; pass token_file, or set SMACK_TOKEN_FILE"):
        smack.connect(fake.url)


def test_what_speaks_no_http_is_no_runner() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            taken, _ = server.accept()
            with taken:
                taken.recv(100)
                taken.sendall(b"\x15\x03\x03\x00\x02\x02F\n")

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(smack.Unreachable, match="no runner, or one that encrypts"):
            smack.connect(f"http://127.0.0.1:{server.getsockname()[1]}")


# Rows ----------------------------------------------------------------------------------------------------------------


def test_a_query_gives_its_rows(fake: Fake, cluster: smack.Cluster) -> None:
    fake.on("POST", "/api/v1/sql", b"".join(arrow_stream(batch(a=[1]), batch(a=[2, 3]))))
    rows = cluster.sql("SELECT a FROM t")
    assert list(rows) == [{"a": 1}, {"a": 2}, {"a": 3}]
    assert fake.asked[-1] == ("POST", "/api/v1/sql", {"sql": "SELECT a FROM t"})
    cluster.sql("SELECT a FROM t WHERE a > ?", [0.5])
    assert fake.asked[-1] == ("POST", "/api/v1/sql", {"sql": "SELECT a FROM t WHERE a > ?", "parameters": [0.5]})
    fake.on("GET", "/tables/my%20table/rows", b"".join(arrow_stream(batch(a=[7]))))
    assert cluster.rows("my table").column("a") == [7]


def test_a_query_without_rows_has_columns(fake: Fake, cluster: smack.Cluster) -> None:
    empty = pa.RecordBatch.from_pydict({"a": pa.array([], pa.int64())})
    fake.on("POST", "/api/v1/sql", b"".join(arrow_stream(empty)))
    assert (len(cluster.sql("SELECT 1")), cluster.sql("SELECT 1").columns) == (0, ["a"])


def test_a_mistake_in_a_query_is_shown_in_it(fake: Fake, cluster: smack.Cluster) -> None:
    told = {"error": "e", "diagnostics": [{"message": "unknown column 'nn'", "span": [7, 9], "help": "did you mean 'n'?"}]}
    fake.on("POST", "/api/v1/sql", (422, told))
    with pytest.raises(smack.Refused) as refused:
        cluster.sql("SELECT nn FROM t")
    assert str(refused.value) == (
        "  error: unknown column 'nn'\n   ╭─[query:1:8]\n 1 │ SELECT nn FROM t\n   ·        ^^\n   ╰────\n"
        "  help: did you mean 'n'?\nerror: 1 mistake in query"
    )


# Jobs ----------------------------------------------------------------------------------------------------------------


def test_a_file_and_a_text_are_submitted(fake: Fake, cluster: smack.Cluster, alone: Path) -> None:
    fake.on("POST", "/api/v1/jobs", (201, {"group": "g", "jobs": ["g/a"]}))
    (alone / "sub").mkdir()
    (alone / "sub/orders.sql").write_text("INSERT …")
    for file in ("sub/orders.sql", Path("sub/orders.sql"), alone / "sub/orders.sql"):
        assert cluster.submit(file) == "g"
        assert fake.asked[-1][2] == {
            "text": "INSERT …",
            "file": str(file),
            "base_dir": str(alone / "sub"),
            "resume": False,
            "resume_from": None,
        }
    cluster.submit("SET a = 'b.sql';\nINSERT INTO x SELECT 1", name="mine", resume="before")
    assert fake.asked[-1][2] == {
        "text": "SET a = 'b.sql';\nINSERT INTO x SELECT 1",
        "file": "mine.sql",
        "base_dir": str(alone),
        "resume": True,
        "resume_from": "before",
    }
    cluster.submit("kind = 'command'\n", language="toml")
    assert fake.asked[-1][2]["file"] == "cell.toml"
    with pytest.raises(smack.SmackError, match=r"failed to read nowhere.sql: No such file"):
        cluster.submit("nowhere.sql")


def test_jobs_are_a_table_that_is_text(fake: Fake, cluster: smack.Cluster) -> None:
    fake.on("GET", "/api/v1/jobs", {"jobs": [job("g/a", "running"), job("h/b", "failed", why="<script>")]})
    assert [one["id"] for one in cluster.jobs()] == ["g/a", "h/b"]
    assert [one["id"] for one in cluster.jobs("g")] == ["g/a"] == [one["id"] for one in cluster.jobs("g/a")]
    assert "<script>" not in cluster.jobs()._repr_html_() and "h/b" in repr(cluster.jobs())
    assert cluster.job("h")["id"] == "h/b"
    with pytest.raises(smack.SmackError, match="there is no job 'x'"):
        cluster.job("x")


def test_names_are_escaped_and_slashes_stay(fake: Fake, cluster: smack.Cluster) -> None:
    said = {"subject": "a b?/c", "state": "running", "sentence": "runs", "details": ["task 0: …"], "events": []}
    fake.on("GET", "/api/v1/why/a%20b%3F/c", said)
    why = cluster.why("a b?/c")
    assert str(why) == "runs" and repr(why) == "a b?/c: runs\n  task 0: …"


def test_waiting_ends_when_all_is_over(fake: Fake, cluster: smack.Cluster) -> None:
    states = iter(["placing", "running", "finished"])
    fake.on("GET", "/api/v1/jobs", lambda _: {"jobs": [job("g/a", next(states)), job("g/b", "finished")]})
    assert [one["state"] for one in cluster.wait("g")] == ["finished", "finished"]


def test_waiting_for_something_ends_when_it_comes(fake: Fake, cluster: smack.Cluster) -> None:
    counts = iter([1, 5, 9])

    def answer(_: Any) -> Any:
        running = job("g/a", "running")
        running["metrics"]["rows_in"] = next(counts)
        return {"jobs": [running]}

    fake.on("GET", "/api/v1/jobs", answer)
    assert cluster.wait("g", until=lambda jobs: jobs[0]["metrics"]["rows_in"] > 4)[0]["metrics"]["rows_in"] == 5


def test_waiting_in_vain_is_told(fake: Fake, cluster: smack.Cluster) -> None:
    fake.on("GET", "/api/v1/jobs", {"jobs": [job("g/a", "failed")]})
    with pytest.raises(smack.JobFailed, match="g/a failed: is failed"):
        cluster.wait("g")
    with pytest.raises(smack.JobFailed, match="will not come of g"):
        cluster.wait("g", until=lambda _: False)
    fake.on("GET", "/api/v1/jobs", {"jobs": [job("g/a", "placing")]})
    with pytest.raises(smack.WaitedTooLong, match="waited 0 s for g in vain: g/a is placing: is placing"):
        cluster.wait("g", timeout=0)
    with pytest.raises(TimeoutError, match="there is no such job"):
        cluster.wait("x", timeout=0)


def test_logs_are_whole_lines(fake: Fake, cluster: smack.Cluster) -> None:
    task = {"id": "g.a.1.0", "state": "running"}
    fake.on("GET", "/api/v1/jobs", {"jobs": [job("g/a", "running", tasks=[task])]})
    pieces = {0: b"one\ntw", 6: "o\nthrée".encode()}

    def answer(_: Any) -> Any:
        offset = int(fake.asked[-1][1].rpartition("=")[2])
        data = pieces.get(offset, b"")

        def send(handler: Any) -> None:
            handler.send_response(200)
            handler.send_header("x-size", "14")
            handler.send_header("x-offset", str(offset))
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data)

        return send

    fake.on("GET", "/api/v1/logs/g.a.1.0", answer)
    assert list(cluster.logs("g.a.1.0")) == ["one", "two", "thrée"]
    assert list(cluster.logs("g")) == ["g.a.1.0 | one", "g.a.1.0 | two", "g.a.1.0 | thrée"]
    assert "stream=stderr" in [list(cluster.logs("g", stderr=True)), fake.asked[-1][1]][1]
    with pytest.raises(smack.SmackError, match=r"no task, job or group 'x' \(groups: g\)"):
        list(cluster.logs("x"))


# Training ------------------------------------------------------------------------------------------------------------

POINTS = [
    {"at_ms": 1, "step": step, "steps_total": 2, "epoch": 1, "loss": 1.0 / step, "metric": None if step == 1 else 0.5}
    | {"metric_name": "auc", "learning_rate": 0.1, "rows_per_second": 9.0}
    for step in (1, 2)
]
RUN = {"id": "g-m-1", "job": "g/m", "model": "m", "submission": "1", "workers": 1, "settings": {"seed": "1"}, "started_ms": 1}
RUN |= {"ended_ms": 2, "outcome": "finished", "error": None, "versions": [3], "last": POINTS[1], "evaluation": None, "stride": 1}


def test_training_gives_its_run(fake: Fake, cluster: smack.Cluster) -> None:
    states = iter(["waiting", "waiting", "running", "finished"])
    trains = {"kind": "train"}
    fake.on("POST", "/api/v1/jobs", (201, {"group": "g", "jobs": ["g/s", "g/m"]}))
    # The stream beside it goes on.
    fake.on("GET", "/api/v1/jobs", lambda _: {"jobs": [job("g/s", "running"), job("g/m", next(states)) | trains]})
    older = RUN | {"id": "g-m-0"}
    fake.on("GET", "/api/v1/runs", {"runs": [RUN, older]})
    fake.on("GET", "/api/v1/runs/g-m-1", {"run": RUN, "points": POINTS})
    run = cluster.train("CREATE MODEL m WITH (label = 'x') AS SELECT 1")
    assert (run.id, run.model, run.version, run.outcome, run.loss, run.metric) == ("g-m-1", "m", 3, "finished", 0.5, 0.5)
    assert run.metrics().column("loss") == [1.0, 0.5] and run.metrics().column("metric") == [None, 0.5]
    assert len(run.evaluations()) == 0
    assert repr(run) == "g-m-1: finished, step 2 of 2, loss 0.5000, auc 0.5000, model m@3"
    assert run.plot(run)._repr_png_().startswith(b"\x89PNG")
    assert [one["id"] for one in cluster.runs("m")] == ["g-m-1", "g-m-0"] and len(cluster.runs("other")) == 0


def test_training_is_of_one_model(fake: Fake, cluster: smack.Cluster) -> None:
    one = "CREATE MODEL m WITH (label = 'x') AS SELECT 1;"
    for text, n in [(one * 2, 2), ("INSERT INTO t SELECT 1 -- CREATE MODEL\n", 0)]:
        with pytest.raises(ValueError, match=f"cell.sql has {n} CREATE MODEL"):
            cluster.train(text)
    assert all(method == "GET" for method, _, _ in fake.asked)


def test_a_training_that_fails_is_told(fake: Fake, cluster: smack.Cluster) -> None:
    fake.on("POST", "/api/v1/jobs", (201, {"group": "g", "jobs": ["g/m"]}))
    fake.on("GET", "/api/v1/jobs", {"jobs": [job("g/m", "failed", kind="train", why="no rows")]})
    with pytest.raises(smack.JobFailed, match="no rows"):
        cluster.train("CREATE MODEL m WITH (label = 'x') AS SELECT 1")
