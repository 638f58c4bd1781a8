"""Trainings: their figures by step, their curves, and what came of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .api import Http
from .listing import Listing
from .rows import Rows
from .views import EvaluationView, PointView, RunView

if TYPE_CHECKING:
    from .chart import Chart


class Run:
    """One training. What it says of itself is as it was when it was asked; `refresh()` asks again."""

    def __init__(self, http: Http, name: str):
        self._http = http
        self._name = name
        self.refresh()

    def refresh(self) -> Run:
        """As it is now."""
        detail = self._http.get("runs", self._name)
        self.view: RunView = detail["run"]
        self._name = self.view["id"]
        self._points: list[PointView] = detail["points"]
        self._evaluations: list[EvaluationView] = detail.get("evaluations", [])
        return self

    @property
    def id(self) -> str:
        """Its name, and of no other."""
        return self.view["id"]

    @property
    def job(self) -> str:
        """Of the job that trains, `group/name`."""
        return self.view["job"]

    @property
    def model(self) -> str:
        """The model's name."""
        return self.view["model"]

    @property
    def version(self) -> int | None:
        """The last version of the model that it wrote."""
        return self.view["versions"][-1] if self.view["versions"] else None

    @property
    def outcome(self) -> str:
        """`running`, `finished`, `stopped` or `failed`."""
        return self.view["outcome"]

    @property
    def settings(self) -> dict[str, str]:
        """What it was told."""
        return self.view["settings"]

    @property
    def loss(self) -> float | None:
        """Of its last report."""
        return self.view["last"]["loss"]

    @property
    def metric(self) -> float | None:
        """On the held-out rows, of its last report; `metric_name` says what it is."""
        return self.view["last"]["metric"]

    @property
    def metric_name(self) -> str:
        """For example `accuracy` or `auc`."""
        return self.view["last"]["metric_name"]

    def metrics(self) -> Rows:
        """Its figures by rising step, evenly thinned where there are many."""
        import pyarrow as pa

        kinds = {"at_ms": pa.int64(), "step": pa.int64(), "epoch": pa.int64(), "loss": pa.float64()}
        kinds |= {"metric": pa.float64(), "learning_rate": pa.float64(), "rows_per_second": pa.float64()}
        points: list[Any] = self._points
        columns = {name: pa.array([point.get(name) for point in points], type=kind) for name, kind in kinds.items()}
        return Rows(pa.table(columns))

    def evaluations(self) -> Rows:
        """What its checkpoints were worth on the held-out rows, where an evaluator judged them."""
        import pyarrow as pa

        names = sorted({name for one in self._evaluations for name in one["metrics"]})
        columns: dict[str, Any] = {
            "step": pa.array([one["step"] for one in self._evaluations], type=pa.int64()),
            "epoch": pa.array([one["epoch"] for one in self._evaluations], type=pa.int64()),
        }
        for name in names:
            columns[name] = pa.array([one["metrics"].get(name) for one in self._evaluations], type=pa.float64())
        return Rows(pa.table(columns))

    def plot(self, *others: Run) -> Chart:
        """Its loss and its metric by step, and those of others beside it."""
        from .chart import Chart

        chart = Chart(panels=2)
        runs = [self, *others]
        for run in runs:
            label = run.id if len(runs) > 1 else None
            chart.axes[0].plot(*run._curve("loss"), label=label)
            # A metric holds from the end of an epoch to the end of the next one.
            chart.axes[1].plot(*run._curve("metric"), drawstyle="steps-post", label=label)
        for axes, what in zip(chart.axes, ("loss", self.metric_name or "metric"), strict=True):
            axes.set_xlabel("step")
            axes.set_ylabel(what)
            if len(runs) > 1:
                axes.legend(fontsize="small")
        return chart

    def _curve(self, what: str) -> tuple[list[int], list[float]]:
        points: list[Any] = [point for point in self._points if point.get(what) is not None]
        return [point["step"] for point in points], [point[what] for point in points]

    def __repr__(self) -> str:
        last = self.view["last"]
        said = [f"{self.id}: {self.outcome}", f"step {last['step']} of {last['steps_total']}"]
        if self.loss is not None:
            said.append(f"loss {self.loss:.4f}")
        if self.metric is not None:
            said.append(f"{self.metric_name} {self.metric:.4f}")
        said += [f"model {self.model}@{version}" for version in self.view["versions"][-1:]]
        return ", ".join(said)


def listing(runs: Sequence[RunView]) -> Listing[RunView]:
    """As `smack runs ls` shows them."""
    return Listing(
        runs,
        {
            "run": lambda run: run["id"],
            "model": lambda run: run["model"],
            "outcome": lambda run: run["outcome"],
            "step": lambda run: run["last"]["step"],
            "loss": lambda run: run["last"]["loss"],
            "metric": lambda run: run["last"]["metric"],
            "of": lambda run: run["last"]["metric_name"],
            "versions": lambda run: ", ".join(map(str, run["versions"])),
        },
    )
