"""The runner's OpenAPI document, and whether the runner answers as it says; see `run`.

    python api.py DIR      where `smack dev --token-file token` was started
"""

import copy
import json
import pathlib
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import pyarrow.ipc
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

STREAM = """
SET job.name = 'documented'; SET job.cpus = '0.1'; SET job.mem = '128MiB'; SET checkpoint.interval = '500ms';
CREATE TABLE arrives (id BIGINT, a BIGINT) WITH (connector = 'datagen', rate = '200', splits = '1',
    fields.id.kind = 'sequence', fields.a.min = '0', fields.a.max = '50');
CREATE TABLE documented (a BIGINT PRIMARY KEY, n BIGINT);
INSERT INTO documented SELECT a, COUNT(*) FROM arrives GROUP BY a;
"""
TRAINING = """
SET job.name = 'learns'; SET job.cpus = '0.1'; SET job.mem = '128MiB';
CREATE TABLE seen (id BIGINT, a BIGINT, y AS a * 2) WITH (connector = 'datagen', rows = '400',
    fields.id.kind = 'sequence', fields.a.min = '0', fields.a.max = '50');
CREATE MODEL doubles WITH (label = 'y', ignore = 'id', task = 'regression', hidden = '4', epochs = '2') AS
    SELECT id, a, y FROM seen;
"""
ARROW = "application/vnd.apache.arrow.stream"
LINES = "application/x-ndjson"
EVENTS = "text/event-stream"


def checked(what):
    print(f"ok: {what}")


def plain(kind):
    """A media type, however it is spelt."""
    return kind.replace(" ", "").lower()


def strict(schema):
    """The same, where what has properties has no others: so a field without documentation is found."""
    if isinstance(schema, dict):
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
        for part in schema.values():
            strict(part)
    elif isinstance(schema, list):
        for part in schema:
            strict(part)
    return schema


class Documented:
    """Calls by the names in the document; every answer is held against what that says of it."""

    def __init__(self, folder):
        self.runner = json.loads((folder / ".smack/dev.json").read_text())["runner"]
        self.token = (folder / "token").read_text().strip()
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        status, kind, body = self.ask("GET", "/api/v1/openapi.json", {}, None)
        assert (status, kind) == (200, "application/json"), (status, kind, body)
        self.document = json.loads(body)
        validate(self.document)
        document = Resource(contents=strict(copy.deepcopy(self.document)), specification=DRAFT202012)
        self.registry = Registry().with_resource("urn:api", document)
        self.operations = {}
        for path, item in self.document["paths"].items():
            for method, operation in item.items():
                self.operations[operation["operationId"]] = (method, path, operation)

    def ask(self, method, target, headers, body):
        headers = {"Authorization": f"Bearer {self.token}", **headers}
        headers = {name: value for name, value in headers.items() if value is not None}
        request = urllib.request.Request(self.runner + target, method=method, headers=headers, data=body)
        try:
            answer = self.opener.open(request, timeout=60)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            return answer.status, answer.headers.get("Content-Type", ""), answer.read()

    def call(self, name, /, body=None, query=None, headers=None, **subjects):
        """The status and the body: what JSON means, the table of Arrow, text, or bytes."""
        method, path, operation = self.operations[name]
        target = path
        for subject, value in subjects.items():
            assert f"{{{subject}}}" in target, (name, subject)
            target = target.replace(f"{{{subject}}}", urllib.parse.quote(value, safe=""))
        if query:
            target += "?" + urllib.parse.urlencode(query)
        headers = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            headers["Content-Type"] = next(iter(operation["requestBody"]["content"]))
        status, kind, said = self.ask(method.upper(), target, headers, body)
        where = f"{method} {target}: {status} {kind} {said[:300]}"
        known = operation["responses"].get(str(status))
        assert known, f"the document knows no such answer: {where}"
        kinds = {plain(of): of for of in known["content"]}
        assert plain(kind) in kinds, f"the document has {list(known['content'])}: {where}"
        if plain(kind) == "application/json":
            said = json.loads(said)
            pointer = ["paths", path, method, "responses", str(status), "content", kinds[plain(kind)], "schema"]
            pointer = "/".join(part.replace("~", "~0").replace("/", "~1") for part in pointer)
            schema = {"$ref": f"urn:api#/{urllib.parse.quote(pointer)}"}
            for error in Draft202012Validator(schema, registry=self.registry).iter_errors(said):
                raise AssertionError(f"{error.json_path}: {error.message}\n{where}")
        elif plain(kind) == ARROW:
            said = pyarrow.ipc.open_stream(said).read_all()
        elif plain(kind).startswith("text/") or plain(kind) == LINES:
            said = said.decode()
        return status, said

    def begins(self, target):
        """The beginning of an answer that has no end."""
        request = urllib.request.Request(self.runner + target, headers={"Authorization": f"Bearer {self.token}"})
        with self.opener.open(request, timeout=60) as answer:
            assert (answer.status, plain(answer.headers["Content-Type"])) == (200, EVENTS), (answer.status, answer.headers)
            return answer.readline() + answer.readline()

    def good(self, name, /, **arguments):
        status, said = self.call(name, **arguments)
        assert 200 <= status < 300, (name, status, said)
        return said

    def until(self, what, ready, /, **arguments):
        """What it says when it says what is waited for."""
        deadline = time.monotonic() + 120
        while True:
            status, said = self.call(what, **arguments)
            if status == 200 and ready(said):
                return said
            assert time.monotonic() < deadline, (what, arguments, status, said)
            time.sleep(0.2)


def main():
    folder = pathlib.Path(sys.argv[1]).resolve()
    api = Documented(folder)
    n_paths, n_operations = len(api.document["paths"]), len(api.operations)
    checked(f"the document is OpenAPI {api.document['openapi']}: {n_paths} paths, {n_operations} operations")
    assert api.document["info"]["version"] == api.good("version")["api"]
    strangers(api)
    subjects = made(api, folder)
    reads(api, subjects)
    queries(api)
    unknown(api)
    broken(api)
    changes(api, folder, subjects)


def strangers(api):
    status, said = api.call("list_jobs", headers={"Authorization": None})
    assert status == 401 and "token" in said, (status, said)
    checked("a stranger is refused as documented")


def made(api, folder):
    """What there is to be asked for, by the name of the parameter."""
    files = {"learns.sql": TRAINING, "documented.sql": STREAM}
    for file, text in files.items():
        request = {"text": text, "file": file, "base_dir": str(folder)}
        api.good("plan", body=request)
        assert api.good("submit", body=request)["jobs"], file
    api.until("list_versions", lambda models: models["models"], model="doubles")
    api.good("promote_version", body={"version": 1}, model="doubles", alias="best")
    jobs = api.good("list_jobs")["jobs"]
    stream = next(job for job in jobs if job["group"] == "documented")
    group, name = stream["group"], stream["name"]

    def running(job):
        return job["state"] == "running" and job["operators"] and job["metrics"]["checkpoint_epoch"]

    stream = api.until("get_job", running, group=group, name=name)
    api.until("list_tables", lambda tables: any(table["name"] == "documented" for table in tables["tables"]))
    nodes = api.good("job_dataflow", group=group, name=name)["nodes"]
    return {
        "group": group,
        "name": name,
        "subject": stream["id"],
        "operator": nodes[0]["id"],
        "task": stream["tasks"][-1]["id"],
        "model": "doubles",
        "which": "best",
        "run": api.good("list_runs")["runs"][0]["id"],
        "table": "documented",
    }


def parameters(operation, where):
    return [said["name"] for said in operation.get("parameters", []) if said["in"] == where]


def reads(api, subjects):
    queries = {"compare_runs": {"ids": subjects["run"]}, "logs": {"stream": "stderr"}}
    n_read = 0
    for name, (method, path, operation) in api.operations.items():
        if method != "get":
            continue
        wanted = parameters(operation, "path")
        missing = [subject for subject in wanted if subject not in subjects]
        if missing:
            print(f"skipped: {path}, for which there is no {' and no '.join(missing)} here")
            continue
        arguments = {subject: subjects[subject] for subject in wanted}
        if EVENTS in operation["responses"]["200"]["content"]:
            begun = api.begins(path)
            assert begun.startswith(b"event: snapshot\ndata: {"), begun
            n_read += 1
            continue
        api.until(name, lambda _: True, query=queries.get(name), **arguments)
        n_read += 1
    assert n_read > 20, n_read
    assert api.until("sample_operator", lambda sample: sample["rows"], query={"rows": 3},
                     **{subject: subjects[subject] for subject in ("group", "name", "operator")})["columns"]
    checked(f"{n_read} answers to GET are as documented, and have no field that is not")


def queries(api):
    query = {"sql": "SELECT a, n FROM documented WHERE a < 3 ORDER BY a"}
    table = api.good("query", body=query, headers={"Accept": ARROW})
    rows = api.good("query", body={**query, "limit": 1}, headers={"Accept": "application/json"})
    assert table.column_names == rows["columns"] == ["a", "n"] and len(rows["rows"]) == 1, (table, rows)
    assert api.good("stream", body=query, headers={"Accept": ARROW}).column_names[-2:] == ["a", "n"]
    lines = [json.loads(line) for line in api.good("stream", body=query, headers={"Accept": LINES}).splitlines()]
    assert lines[0]["columns"][-2:] == ["a", "n"] and lines[-1] == {"end": True}, lines
    for name in ("query", "stream"):
        status, said = api.call(name, body={"sql": "SELECT n FROM documentd"})
        assert status == 422 and said["diagnostics"], (status, said)
    checked("queries as Arrow, JSON and lines, and their mistakes with places")


def unknown(api):
    """Whom nobody knows is refused as documented, in words."""
    n_refused = 0
    for name, (method, path, operation) in api.operations.items():
        wanted = parameters(operation, "path")
        if not wanted or "requestBody" in operation:
            continue
        status, said = api.call(name, query={"ids": "nobody"}, **{subject: "nobody/atall" for subject in wanted})
        # A role without a quota has none afterwards either.
        assert name == "remove_quota" or (status >= 400 and said["error"]), (name, status, said)
        n_refused += 1
    status, said = api.call("compare_runs", query={"ids": "nobody"})
    assert status == 404 and said["error"], (status, said)
    checked(f"{n_refused} operations refuse whom nobody knows as documented")


def broken(api):
    """A body that cannot be read is refused as documented, and so is a query."""
    n_refused = 0
    for name, (method, path, operation) in api.operations.items():
        if "requestBody" not in operation:
            continue
        subjects = {subject: "nobody" for subject in parameters(operation, "path")}
        status, said = api.call(name, body=b"{", **subjects)
        assert 400 <= status < 500 and said["error"], (name, status, said)
        n_refused += 1
    for name, query, subjects in [
        ("logs", {"offset": "x"}, {"task": "nobody"}),
        ("compare_runs", {}, {}),
        ("sample_operator", {"rows": "x"}, {"group": "g", "name": "n", "operator": "o"}),
        ("read_rows", {"limit": "x"}, {"table": "documented"}),
    ]:
        status, said = api.call(name, query=query, **subjects)
        assert status == 400 and said["error"], (name, status, said)
    checked(f"{n_refused} bodies that cannot be read are refused as documented, and queries too")


def changes(api, folder, subjects):
    """What changes something says what is documented, and leaves nothing behind."""
    schedule = {"name": "yearly", "cron": "0 0 1 1 *", "zone": "UTC", "catch_up": "none", "overlap": "skip",
                "text": TRAINING, "file": "learns.sql", "base_dir": str(folder)}
    api.good("add_schedule", body=schedule)
    assert [schedule["name"] for schedule in api.good("list_schedules")["schedules"]] == ["yearly"]
    api.good("remove_schedule", name="yearly")
    api.good("make_savepoint", body={"name": "kept"}, subject=subjects["group"])
    assert any(kept["name"] == "kept" for kept in api.good("list_savepoints", subject=subjects["subject"])["checkpoints"])
    api.good("drop_savepoint", body={"name": "kept"}, subject=subjects["group"])
    # Slashes of a subject may stand as they are.
    status, _, said = api.ask("GET", f"/api/v1/why/{subjects['subject']}", {}, None)
    assert status == 200 and json.loads(said)["subject"] == subjects["subject"], (status, said)
    assert api.good("stop", subject=subjects["subject"])["jobs"] == [subjects["subject"]]
    api.until("get_job", lambda job: job["state"] == "stopped", group=subjects["group"], name=subjects["name"])
    checked("schedules, savepoints and the end of a job are as documented")


if __name__ == "__main__":
    main()
