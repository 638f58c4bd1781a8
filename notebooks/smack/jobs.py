"""Jobs: what is sent to make them, how they are listed, and how they are waited for."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from .api import Text
from .errors import JobFailed, SmackError, WaitedTooLong
from .listing import Listing
from .views import JobView

OVER = ("finished", "failed", "stopped")
_ENDINGS = (".sql", ".toml", ".yaml", ".yml")
_POLL_S = 0.2


class Source:
    """A job file: one on disk, or a text that stands for one."""

    def __init__(self, file_or_text: str | os.PathLike[str], name: str | None = None, language: str = "sql"):
        """A path, or a text that is one: a single line that ends as job files do. Any other text is a job file's, which `name`
        names (and so its group, unless it says another itself) and whose relative paths are those of the current folder."""
        if is_file(file_or_text):
            path = Path(file_or_text)
            try:
                text = path.read_text()
            except OSError as error:
                raise SmackError(f"failed to read {path}: {error.strerror or error}") from None
            self.text = Text(text, f"{name}{path.suffix}" if name else str(path))
            self.folder = path.parent.absolute()
        else:
            self.text = Text(os.fspath(file_or_text), f"{name or 'cell'}.{language}")
            self.folder = Path.cwd()

    @property
    def is_sql(self) -> bool:
        return self.text.file.lower().endswith(".sql")

    def request(self, resume: bool | str = False) -> dict[str, object]:
        """For the API."""
        return {
            "text": self.text.text,
            "file": self.text.file,
            "base_dir": str(self.folder),
            "resume": resume is not False,
            "resume_from": resume if isinstance(resume, str) else None,
        }


def is_file(file_or_text: str | os.PathLike[str]) -> bool:
    """Whether it names a file, and is not the text of one."""
    if not isinstance(file_or_text, str):
        return True
    return "\n" not in file_or_text and file_or_text.strip().lower().endswith(_ENDINGS)


def listing(jobs: Sequence[JobView]) -> Listing[JobView]:
    """As `smack ps` shows them."""
    return Listing(
        jobs,
        {
            "job": lambda job: job["id"],
            "kind": lambda job: job["kind"],
            "state": lambda job: job["state"],
            "tasks": lambda job: f"{sum(task['state'] == 'running' for task in job['tasks'])}/{job['parallelism']}",
            "progress": progress,
            "restarts": lambda job: job["restarts"],
            "why": lambda job: job["why"],
        },
    )


def progress(job: JobView) -> str:
    """How far it is."""
    metrics = job["metrics"]
    if job["kind"] == "stream":
        parts = [f"{metrics['rows_in']:,} in, {metrics['rows_out']:,} out", f"{metrics['rows_per_second']:,.0f}/s"]
        uncounted = (("late", metrics["rows_late"]), ("bad", metrics["rows_bad"]))
        parts += [f"{rows:,} {what}" for what, rows in uncounted if rows]
        return ", ".join(parts)
    if job["kind"] == "train":
        parts = [f"step {metrics['step']}/{metrics['steps_total']}"]
        if metrics["loss"] is not None:
            parts.append(f"loss {metrics['loss']:.4f}")
        if metrics["metric"] is not None:
            parts.append(f"{metrics['metric_name']} {metrics['metric']:.4f}")
        if metrics["model_version"] is not None:
            parts.append(f"model v{metrics['model_version']}")
        return ", ".join(parts)
    return "-"


def named(jobs: Sequence[JobView], subject: str | None) -> list[JobView]:
    """Those of a group, or one by its name; all without a subject."""
    return [job for job in jobs if subject in (None, job["group"], job["id"])]


def wait(
    ask: Callable[[], list[JobView]], subject: str, timeout: float, until: Callable[[list[JobView]], bool] | None
) -> list[JobView]:
    """Asks again and again until the jobs are over, or what is waited for has come."""
    deadline = time.monotonic() + timeout
    while True:
        jobs = ask()
        over = bool(jobs) and all(job["state"] in OVER for job in jobs)
        if jobs and (over if until is None else until(jobs)):
            failed = next((job for job in jobs if job["state"] == "failed"), None)
            if until is None and failed is not None:
                raise JobFailed(f"{failed['id']} failed: {failed['why']}")
            return jobs
        if over or any(job["state"] == "failed" for job in jobs):
            raise JobFailed(f"what was waited for will not come of {subject}: {_states(jobs)}")
        if time.monotonic() > deadline:
            raise WaitedTooLong(f"waited {timeout:g} s for {subject} in vain: {_states(jobs)}")
        time.sleep(_POLL_S)


def _states(jobs: Sequence[JobView]) -> str:
    return "; ".join(f"{job['id']} is {job['state']}: {job['why']}" for job in jobs) or "there is no such job"
