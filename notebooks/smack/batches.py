"""Rows batch by batch, straight from the answer: however many there are, only one batch is in memory."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .api import Body
from .errors import Cut

if TYPE_CHECKING:
    import pyarrow as pa


class Batches(Iterator["pa.RecordBatch"]):
    """The record batches of a query, as they come. Closed (or collected), the query ends.

    It may be bounded: by rows, and by seconds since it was asked, for queries that never end.
    """

    def __init__(self, ask: Callable[[float | None], Body], limit: int | None = None, seconds: float | None = None):
        """`ask` asks, and waits for the beginning of the answer for so many seconds."""
        if limit is not None and limit < 0:
            raise ValueError(f"limit is {limit}, and rows cannot be fewer than none")
        self._left = limit
        self._deadline: float | None = None
        self._body: Body | None = None
        self._reader: Any = None
        self.end_after(seconds)
        try:
            self._body = ask(self._patience())
            import pyarrow.ipc

            self._reader = self._read(lambda: pyarrow.ipc.open_stream(self._body))
        except (TimeoutError, _EndedError):
            # Nothing came in that time; a reader that waits is told so by there being no rows.
            self.close()
        except BaseException:
            self.close()
            raise

    @property
    def schema(self) -> pa.Schema | None:
        """Names and types; none where the time was over before the answer began."""
        return self._reader.schema if self._reader is not None else None

    @property
    def changes(self) -> bool:
        """Whether rows may be taken back; the first column, `op`, then says what becomes of each."""
        return self._body is not None and self._body.header("x-changes") == "true"

    def end_after(self, seconds: float | None) -> None:
        """From now on at most so many seconds, unless an earlier end was said."""
        if seconds is not None:
            deadline = time.monotonic() + seconds
            self._deadline = deadline if self._deadline is None else min(self._deadline, deadline)

    def __next__(self) -> pa.RecordBatch:
        if self._body is None or self._body.closed or self._left == 0:
            self.close()
            raise StopIteration
        try:
            batch = self._read(self._reader.read_next_batch)
            # A query that goes on says so now and then by a batch without rows.
            while batch.num_rows == 0:
                batch = self._read(self._reader.read_next_batch)
        except (StopIteration, TimeoutError, _EndedError):
            self.close()
            raise StopIteration from None
        except BaseException:
            self.close()
            raise
        if self._left is not None:
            batch = batch.slice(0, self._left)
            self._left -= batch.num_rows
            if self._left == 0:
                # The query need not go on for a batch that nobody will ask for.
                self._body.close()
        return batch

    def _read(self, read: Callable[[], Any]) -> Any:
        assert self._body is not None
        self._body.patience(self._patience())
        try:
            return read()
        except TimeoutError:
            raise
        except (OSError, ValueError, http.client.HTTPException) as error:
            # Arrow's own of what it cannot read is a ValueError.
            if self._body.closed:
                raise _EndedError from None
            raise self._cut("" if isinstance(error, http.client.IncompleteRead) else str(error)) from None

    @staticmethod
    def _cut(why: str = "") -> Cut:
        return Cut(f"the query ended in the middle of its rows; the runner's log says why{f' ({why})' if why else ''}")

    def _patience(self) -> float | None:
        if self._deadline is None:
            return None
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise _EndedError
        return left

    def close(self) -> None:
        """Ends the query, if it has not ended."""
        if self._body is not None:
            self._body.close()

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_body", None) is not None:
            self.close()


class _EndedError(Exception):
    """The time is over, or the query was closed meanwhile."""
