"""A thin client of a smack cluster: HTTP with JSON for jobs, Arrow for rows. Needs pyarrow and nothing else.

    from smack_client import Smack
    smack = Smack()                      # $SMACK_RUNNER, the `smack dev` of this folder, or http://127.0.0.1:5080
    group = smack.submit("first.sql")
    smack.wait(group)
    smack.rows("features").to_pandas()
"""

import json
import os
import pathlib
import time
import urllib.error
import urllib.parse
import urllib.request

import pyarrow as pa
import pyarrow.ipc

OVER = ("finished", "failed", "stopped")


class SmackError(Exception):
    """What the runner said, with the places of mistakes in a submitted file."""

    def __init__(self, failure: dict):
        self.diagnostics = failure.get("diagnostics", [])
        lines = [failure.get("error", "the runner refused")]
        for diagnostic in self.diagnostics:
            help_text = f" ({diagnostic['help']})" if diagnostic.get("help") else ""
            lines.append(f"  {diagnostic['message']}{help_text}")
        super().__init__("\n".join(lines))


class Smack:
    def __init__(self, runner: str | None = None, token_file: str | None = None):
        self.runner = (runner or os.environ.get("SMACK_RUNNER") or _dev_cluster() or "http://127.0.0.1:5080").rstrip("/")
        if "://" not in self.runner:
            self.runner = f"http://{self.runner}"
        token_file = token_file or os.environ.get("SMACK_TOKEN_FILE")
        self._token = pathlib.Path(token_file).read_text().strip() if token_file else None
        # The cluster is near; a proxy for the world outside must not stand between.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    # Jobs ------------------------------------------------------------------------------------------------------------

    def submit(self, file: str | os.PathLike, text: str | None = None) -> str:
        """Submits a job file, or `text` under that name; returns the group."""
        path = pathlib.Path(file)
        request = {
            "text": path.read_text() if text is None else text,
            "file": str(file),
            "base_dir": str(path.parent.resolve()),
        }
        return self._json("POST", "/api/v1/jobs", request)["group"]

    def jobs(self, group: str | None = None) -> list[dict]:
        jobs = self._json("GET", "/api/v1/jobs")["jobs"]
        return [job for job in jobs if group in (None, job["group"], job["id"])]

    def job(self, job: str) -> dict:
        return self._json("GET", f"/api/v1/jobs/{urllib.parse.quote(job)}")

    def why(self, subject: str) -> str:
        return self._json("GET", f"/api/v1/why/{urllib.parse.quote(subject)}")["sentence"]

    def stop(self, subject: str) -> list[str]:
        return self._json("POST", f"/api/v1/stop/{urllib.parse.quote(subject)}")["jobs"]

    def cluster(self) -> dict:
        return self._json("GET", "/api/v1/cluster")

    def wait(self, group: str, timeout_s: float = 120.0, until=None) -> list[dict]:
        """Waits until all jobs of the group are over, or until `until(jobs)` is true; raises if one fails."""
        deadline = time.monotonic() + timeout_s
        while True:
            jobs = self.jobs(group)
            failed = [job for job in jobs if job["state"] == "failed"]
            if failed:
                raise SmackError({"error": f"{failed[0]['id']} failed: {failed[0]['why']}"})
            if until is not None and until(jobs):
                return jobs
            if jobs and all(job["state"] in OVER for job in jobs):
                return jobs
            if time.monotonic() > deadline:
                states = ", ".join(f"{job['id']} {job['state']}: {job['why']}" for job in jobs)
                raise TimeoutError(f"{group} is not over after {timeout_s:.0f} s: {states}")
            time.sleep(0.2)

    # Rows ------------------------------------------------------------------------------------------------------------

    def rows(self, table: str) -> pa.Table:
        """The rows of a table in the cluster's own table store, as they are now."""
        with self._open("GET", f"/tables/{urllib.parse.quote(table)}/rows") as response:
            return pa.ipc.open_stream(response.read()).read_all()

    def sql(self, query: str) -> pa.Table:
        """The rows of a query over the cluster's tables, and over what the query declares itself."""
        with self._open("POST", "/api/v1/sql", {"sql": query}) as response:
            return pyarrow.ipc.open_stream(response.read()).read_all()

    # -----------------------------------------------------------------------------------------------------------------

    def _json(self, method: str, path: str, body: dict | None = None) -> dict:
        with self._open(method, path, body) as response:
            return json.load(response)

    def _open(self, method: str, path: str, body: dict | None = None):
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        data = None
        if body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        request = urllib.request.Request(self.runner + path, data=data, headers=headers, method=method)
        try:
            return self._opener.open(request, timeout=60)
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            try:
                failure = json.loads(text)
            except ValueError:
                failure = {"error": f"the runner answered {error.code}: {text[:200]}"}
            raise SmackError(failure) from None
        except urllib.error.URLError as error:
            hint = "is it running? start one with `smack dev`"
            raise ConnectionError(f"failed to reach the runner at {self.runner}: {hint} ({error.reason})") from None


def _dev_cluster() -> str | None:
    try:
        return json.loads(pathlib.Path(".smack/dev.json").read_text())["runner"]
    except (OSError, ValueError, KeyError):
        return None
