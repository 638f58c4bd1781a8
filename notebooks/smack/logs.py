"""What tasks wrote: once, or for as long as they write."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from .api import Http, api_path
from .errors import Refused, SmackError
from .jobs import OVER, named
from .views import JobView, TaskView

_TASK_OVER = ("finished", "failed", "killed", "lost", "dropped")
_POLL_S = 0.3


def read(http: Http, ask: Callable[[], list[JobView]], subject: str, follow: bool, stderr: bool) -> Iterator[str]:
    """The lines of a task, or of all tasks of a job or group; those begin with the name of their task."""
    readings: dict[str, _Reading] = {}
    while True:
        tasks, over, many = _tasks(ask(), subject)
        for task in tasks:
            reading = readings.setdefault(task["id"], _Reading(http, task["id"], stderr, many))
            try:
                yield from reading.lines()
            except Refused:
                # The sandbox of a task that was never started cannot be read; that of others can, and this one may come.
                if not many and not follow:
                    raise
        if over or not follow:
            for reading in readings.values():
                yield from reading.rest()
            return
        time.sleep(_POLL_S)


def _tasks(jobs: list[JobView], subject: str) -> tuple[list[TaskView], bool, bool]:
    """Those that are meant, whether all of them are over, and whether they may be several."""
    of_jobs = named(jobs, subject)
    if of_jobs:
        return [task for job in of_jobs for task in job["tasks"]], all(job["state"] in OVER for job in of_jobs), True
    for job in jobs:
        for task in job["tasks"]:
            if task["id"] == subject:
                return [task], task["state"] in _TASK_OVER, False
    known = ", ".join(sorted({job["group"] for job in jobs})) or "none"
    raise SmackError(f"there is no task, job or group '{subject}' (groups: {known})")


class _Reading:
    """Where one is in a task's output."""

    def __init__(self, http: Http, task: str, stderr: bool, many: bool):
        self._http, self._task = http, task
        self._stream = "stderr" if stderr else "stdout"
        self._prefix = f"{task} | " if many else ""
        self._offset = 0
        self._begun = b""

    def lines(self) -> Iterator[str]:
        """Whole lines up to its present end."""
        while True:
            piece, size = self._piece()
            *whole, self._begun = (self._begun + piece).split(b"\n")
            for line in whole:
                yield self._prefix + line.decode(errors="replace")
            # An answer holds at most what the runner wants to send at once.
            if not piece or self._offset >= size:
                return

    def rest(self) -> Iterator[str]:
        """A line whose end has not come."""
        if self._begun:
            yield self._prefix + self._begun.decode(errors="replace")

    def _piece(self) -> tuple[bytes, int]:
        query = {"stream": self._stream, "offset": str(self._offset)}
        with self._http.open("GET", api_path("logs", self._task), query=query) as answer:
            piece = answer.read()
            # Later than was asked for, if what stood there is not kept any more.
            self._offset = int(answer.header("x-offset") or self._offset) + len(piece)
            return piece, int(answer.header("x-size") or self._offset)
