"""Rows of queries that never end: as they come, and until nobody wants more of them."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

import smack

from .conftest import Fake, arrow_stream, batch, begin_chunks, chunk

# Nothing waits for so long unless something is broken.
PATIENCE_S = 60.0


class Endless:
    """A query that gives a batch whenever the test says so, and hears when nobody listens any more."""

    def __init__(self, fake: Fake, *, head: bool = True):
        self.batches: list[pa.RecordBatch] = []
        self.more = threading.Semaphore(0)
        self.ended = threading.Event()
        self.head = head
        fake.on("POST", "/api/v1/sql/stream", lambda _: self.answer)

    def give(self, *batches: pa.RecordBatch) -> None:
        for one in batches:
            self.batches.append(one)
            self.more.release()

    def answer(self, handler: Any) -> None:
        handler.close_connection = True
        try:
            if self.head:
                begin_chunks(handler)
            for at in itertools.count():
                while not self.more.acquire(timeout=0.02):
                    if self._nobody_listens(handler):
                        return
                # The schema goes before the first one.
                for piece in arrow_stream(self.batches[at], end=False)[0 if at == 0 else 1 :]:
                    chunk(handler, piece)
        except OSError:
            pass
        finally:
            self.ended.set()

    @staticmethod
    def _nobody_listens(handler: Any) -> bool:
        handler.connection.setblocking(False)
        try:
            return not handler.connection.recv(1)
        except BlockingIOError:
            return False
        finally:
            handler.connection.setblocking(True)


def rows(n: int) -> pa.RecordBatch:
    return batch(a=pa.array(range(n), pa.int64()))


def test_batches_come_one_by_one_and_closing_ends_the_query(fake: Fake, cluster: smack.Cluster) -> None:
    endless = Endless(fake)
    endless.give(rows(1))
    stream = cluster.stream("SELECT a FROM t")
    assert fake.asked[-1] == ("POST", "/api/v1/sql/stream", {"sql": "SELECT a FROM t"})
    assert stream.schema is not None and stream.schema.names == ["a"]
    assert next(stream).num_rows == 1
    # It is here before the next one was made.
    endless.give(rows(2))
    assert next(stream).num_rows == 2
    assert not endless.ended.is_set()
    stream.close()
    assert endless.ended.wait(PATIENCE_S)
    assert list(stream) == []


def test_batches_without_rows_are_passed_over(fake: Fake, cluster: smack.Cluster) -> None:
    endless = Endless(fake)
    endless.give(rows(0), rows(1), rows(0), rows(0), rows(2))
    with cluster.stream("SELECT", limit=3) as stream:
        assert not stream.changes and [one.num_rows for one in stream] == [1, 2]


def test_a_stream_that_is_left_ends(fake: Fake, cluster: smack.Cluster) -> None:
    for leave in (_with, _forget):
        endless = Endless(fake)
        endless.give(rows(1), rows(1))
        leave(cluster)
        assert endless.ended.wait(PATIENCE_S), leave


def _with(cluster: smack.Cluster) -> None:
    with cluster.stream("SELECT") as stream:
        next(stream)


def _forget(cluster: smack.Cluster) -> None:
    for _ in cluster.stream("SELECT"):
        break


def test_closing_from_another_thread_ends_the_wait(fake: Fake, cluster: smack.Cluster) -> None:
    endless = Endless(fake)
    endless.give(rows(1))
    stream = cluster.stream("SELECT")
    threading.Timer(0.2, stream.close).start()
    assert [one.num_rows for one in stream] == [1]
    assert endless.ended.wait(PATIENCE_S)


def test_a_column_of_that_name_is_no_changelog(fake: Fake, cluster: smack.Cluster) -> None:
    endless = Endless(fake)
    endless.give(batch(op=["left", "right"], t=[1, 2]))
    chart = smack.live_chart(cluster.stream("SELECT", limit=2), x="t", y="t", by="op")
    assert chart.rows().column("op") == ["left", "right"]
    endless = Endless(fake)
    endless.give(batch(op=["left", "right"], t=[1, 2]))
    chart = smack.live_chart(cluster.stream("SELECT", limit=2), x="t", y="t", by="op", key=["t"])
    assert chart.rows().column("op") == ["left", "right"]


def test_a_limit_cuts_the_last_batch(fake: Fake, cluster: smack.Cluster) -> None:
    endless = Endless(fake)
    endless.give(rows(3), rows(3))
    assert [one.num_rows for one in cluster.stream("SELECT", limit=4)] == [3, 1]
    assert endless.ended.wait(PATIENCE_S)
    with pytest.raises(ValueError, match="limit is -1"):
        cluster.stream("SELECT", limit=-1)


def test_seconds_end_a_stream_that_says_nothing_more(fake: Fake, cluster: smack.Cluster) -> None:
    endless = Endless(fake)
    endless.give(rows(3))
    began = time.monotonic()
    assert [one.num_rows for one in cluster.stream("SELECT", seconds=0.3)] == [3]
    assert time.monotonic() - began >= 0.3
    assert endless.ended.wait(PATIENCE_S)


@pytest.mark.parametrize("head", [True, False])
def test_seconds_end_a_stream_that_never_begins(fake: Fake, cluster: smack.Cluster, head: bool) -> None:
    endless = Endless(fake, head=head)
    stream = cluster.stream("SELECT", seconds=0.2)
    assert stream.schema is None and list(stream) == []
    assert endless.ended.wait(PATIENCE_S)


def test_a_mistake_is_told_before_any_row(fake: Fake, cluster: smack.Cluster) -> None:
    fake.on("POST", "/api/v1/sql/stream", (422, {"error": "e", "diagnostics": [{"message": "unknown", "span": [0, 3]}]}))
    with pytest.raises(smack.Refused, match=r"(?s)unknown.*\^\^\^"):
        cluster.stream("SELECT")


def test_a_runner_that_has_no_streams_is_named(cluster: smack.Cluster) -> None:
    with pytest.raises(smack.SmackError, match="gives no rows of endless queries; a newer one does"):
        cluster.stream("SELECT")


def cut_in_a_chunk(handler: Any) -> None:
    begin_chunks(handler)
    head, first, *_ = arrow_stream(rows(1000))
    chunk(handler, head)
    handler.wfile.write(f"{len(first):x}\r\n".encode() + first[: len(first) // 2])
    handler.close_connection = True


def cut_between_chunks(handler: Any) -> None:
    begin_chunks(handler)
    for piece in arrow_stream(rows(10), end=False):
        chunk(handler, piece)
    handler.close_connection = True


def cut_in_the_schema(handler: Any) -> None:
    begin_chunks(handler)
    chunk(handler, arrow_stream(rows(10))[0][:20])
    handler.wfile.write(b"0\r\n\r\n")


def no_arrow(handler: Any) -> None:
    begin_chunks(handler)
    chunk(handler, b"<html>no arrow at all, but some text</html>")
    handler.wfile.write(b"0\r\n\r\n")


@pytest.mark.parametrize("answer", [cut_in_a_chunk, cut_between_chunks, cut_in_the_schema, no_arrow])
@pytest.mark.parametrize("path", ["/api/v1/sql", "/api/v1/sql/stream"])
def test_rows_that_end_in_the_middle_are_told(fake: Fake, cluster: smack.Cluster, path: str, answer: Callable[[Any], None]) -> None:
    fake.on("POST", path, lambda _: answer)
    with pytest.raises(smack.Cut, match="ended in the middle of its rows"):
        list(cluster.sql_batches("SELECT") if path.endswith("sql") else cluster.stream("SELECT"))


def test_one_batch_is_in_memory(fake: Fake, cluster: smack.Cluster) -> None:
    n_batches, n_rows = 200, 100_000

    def answer(handler: Any) -> None:
        begin_chunks(handler)
        one = batch(a=pa.array(range(n_rows), pa.int64()))
        head, piece, end = arrow_stream(one)
        chunk(handler, head)
        for _ in range(n_batches):
            chunk(handler, piece)
        chunk(handler, end)
        handler.wfile.write(b"0\r\n\r\n")

    fake.on("POST", "/api/v1/sql", lambda _: answer)
    before, most, seen = pa.total_allocated_bytes(), 0, 0
    for one in cluster.sql_batches("SELECT"):
        seen += one.num_rows
        most = max(most, pa.total_allocated_bytes() - before)
    assert seen == n_batches * n_rows
    # 160 MB in all, and some 0.8 MB at a time.
    assert most < 10 * n_rows * 8, most


def test_a_chart_of_a_stream_shows_its_rows(fake: Fake, cluster: smack.Cluster) -> None:
    endless = Endless(fake)
    endless.give(batch(t=[1, 2], n=[5, 6], who=["<a>", "b"]), batch(t=[3], n=[7], who=["<a>"]))
    chart = smack.live_chart(cluster.stream("SELECT"), x="t", y="n", by="who", seconds=0.5)
    assert chart.n_rows == 3 and chart.rows().column("n") == [5, 6, 7]
    assert chart._repr_png_().startswith(b"\x89PNG")
    assert [line.get_label() for line in chart.axes[0].get_lines()] == ["<a>", "b"]
    assert endless.ended.wait(PATIENCE_S)


def test_a_chart_of_a_changelog_shows_what_stands() -> None:
    told = [batch(op=["+I", "+I"], t=[1, 2], n=[5, 6]), batch(op=["-U", "+U"], t=[1, 1], n=[5, 9])]
    chart = smack.live_chart(iter(told), x="t", y=["n"], key=["t"])
    assert chart.rows().arrow().to_pydict() == {"t": [1, 2], "n": [9, 6]}
    few = smack.live_chart([rows(100)], x="a", y="a", points=10)
    assert few.rows().column("a") == list(range(90, 100))
