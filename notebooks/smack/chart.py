"""Charts in notebooks: of what is here, and of rows while they come."""

from __future__ import annotations

import datetime
import io
import time
from collections import deque
from collections.abc import Iterable, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from .batches import Batches
from .changelog import Changelog
from .rows import Rows

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes

# So often a picture is drawn anew; a browser takes some tenths of a second for it.
_DRAW_S = 0.5


class Chart:
    """A figure of matplotlib that shows itself as a picture, whatever backend is set."""

    def __init__(self, panels: int = 1, size: tuple[float, float] | None = None):
        """So many panels side by side, `size` inches in all."""
        from matplotlib.figure import Figure

        self.figure = Figure(figsize=size or (4.6 * panels if panels > 1 else 7.2, 3.2), layout="constrained")
        self.axes: list[Axes] = list(self.figure.subplots(1, panels, squeeze=False)[0])

    def save(self, path: str | PathLike[str]) -> None:
        """Writes it into a file, of the kind that its name says."""
        self.figure.savefig(path)

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        self.figure.savefig(picture, format="png", dpi=90)
        return picture.getvalue()

    def __repr__(self) -> str:
        n = len(self.axes)
        return f"a chart with {n} panel{'' if n == 1 else 's'}"


class LiveChart(Chart):
    """A chart of rows that come; `rows()` are those that it shows."""

    def __init__(self, x: str, y: Sequence[str], by: str | None, changes: Changelog | None, points: int):
        super().__init__()
        self.n_rows = 0
        self._x, self._y, self._by = x, list(y), by
        self._changes = changes
        self._recent: deque[dict[str, Any]] = deque(maxlen=points)

    def add(self, batch: pa.RecordBatch) -> None:
        """Takes up a batch, which is seen when it is drawn."""
        self.n_rows += batch.num_rows
        if self._changes is not None:
            self._changes.apply(batch)
            return
        # Of a chart of an endless stream the latest points are enough.
        self._recent.extend(batch.to_pylist())

    def rows(self) -> Rows:
        """The rows that the chart shows."""
        import pyarrow as pa

        if self._changes is not None:
            return self._changes.rows()
        return Rows(pa.Table.from_pylist(list(self._recent)))

    def draw(self) -> None:
        """Draws what has come."""
        axes = self.axes[0]
        axes.clear()
        shown = list(self.rows())
        for label, points in self._lines(shown):
            points.sort(key=lambda point: point[0])
            axes.plot([x for x, _ in points], [y for _, y in points], marker=".", label=label)
        axes.set_xlabel(self._x)
        axes.set_ylabel(", ".join(self._y))
        if self._by or len(self._y) > 1:
            axes.legend(loc="upper left", fontsize="small")
        if shown and isinstance(shown[0][self._x], datetime.date):
            from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

            places = AutoDateLocator()  # type: ignore[no-untyped-call]
            axes.xaxis.set_major_locator(places)
            axes.xaxis.set_major_formatter(ConciseDateFormatter(places))  # type: ignore[no-untyped-call]

    def _lines(self, rows: list[dict[str, Any]]) -> list[tuple[str, list[tuple[Any, Any]]]]:
        """A line for each value of `by`, and for each column."""
        lines: dict[str, list[tuple[Any, Any]]] = {}
        for row in rows:
            for y in self._y:
                if row[self._x] is None or row[y] is None:
                    continue
                parts = [str(row[self._by])] if self._by else []
                label = " ".join([*parts, *([y] if len(self._y) > 1 or not parts else [])])
                lines.setdefault(label, []).append((row[self._x], row[y]))
        return sorted(lines.items())


def live_chart(
    stream: Batches | Iterable[pa.RecordBatch],
    *,
    x: str,
    y: str | Sequence[str],
    by: str | None = None,
    key: Sequence[str] | None = None,
    seconds: float | None = None,
    points: int = 2_000,
) -> LiveChart:
    """Draws a stream while its rows come, as lines of `y` (one column or several) over `x`, one for each value of `by`.

    It ends with the stream, or after so many seconds, and returns the chart. Of a stream that only brings rows it shows the
    latest `points`; of one that takes rows back, and with a `key` of any, those that stand, one for each `key` (`x` and `by`
    without it). `stream` may also be batches from elsewhere; those take rows back if a key is given.
    """
    told = stream.changes if isinstance(stream, Batches) else key is not None
    folded = Changelog(key or [x, *([by] if by else [])], op="op" if told else None) if told or key is not None else None
    chart = LiveChart(x, [y] if isinstance(y, str) else y, by, folded, points)
    screen = _Screen(chart)
    deadline = None if seconds is None else time.monotonic() + seconds
    if isinstance(stream, Batches):
        # It waits for rows, and must not do so for longer.
        stream.end_after(seconds)
    try:
        for batch in stream:
            chart.add(batch)
            screen.show()
            if deadline is not None and time.monotonic() > deadline:
                break
    except KeyboardInterrupt:
        # Whoever has seen enough interrupts the cell, and keeps the picture.
        pass
    finally:
        if isinstance(stream, Batches):
            stream.close()
        screen.show(last=True)
    return chart


class _Screen:
    """Where a chart is shown: an output of a notebook that is replaced, or nowhere."""

    def __init__(self, chart: LiveChart):
        self._chart = chart
        self._handle: Any = None
        self._drawn = 0.0
        try:
            from IPython.core.getipython import get_ipython
            from IPython.display import display
        except ImportError:
            return
        if get_ipython() is not None:
            self._handle = display(chart, display_id=True)  # type: ignore[no-untyped-call]

    def show(self, last: bool = False) -> None:
        now = time.monotonic()
        if not last and (self._handle is None or now - self._drawn < _DRAW_S):
            return
        self._chart.draw()
        if self._handle is not None:
            self._handle.update(self._chart)
        self._drawn = now
