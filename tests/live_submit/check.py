"""A pipeline from a real Kafka broker to a real Cassandra node, seen from outside.

Confluent's client writes JSON events to a topic of four partitions; `smack submit` runs a windowed aggregation at
parallelism 2 into another topic and into a Cassandra table, and beside it an aggregation without a window, whose rows
change and go again, into a topic by key and another table; in the middle a task is killed with SIGKILL. What a
read_committed consumer and the Cassandra driver read back must equal a computation over the same events here.

    SMACK_KAFKA=host:port SMACK_CASSANDRA=host:port python check.py --smack PATH [--events N] [--no-kill]
"""

import argparse
import json
import os
import pathlib
import signal
import sys
import tempfile
import time
import uuid

from cassandra.cluster import Cluster
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from cluster import Dev

USERS = 500
START_MS = 1_767_225_600_000
WINDOW_MS = 10_000
# Quarters are exact in binary, so sums do not depend on the order of adding.
CENTS = 0.25


def events(n):
    for i in range(n):
        user = (i * 7919) % USERS
        yield i, f"user-{user}", START_MS + i // 10, ((i * 31) % 4000) * CENTS


def expected(n):
    sums = {}
    for _, user, at_ms, amount in events(n):
        key = (user, at_ms // WINDOW_MS * WINDOW_MS)
        count, total, largest = sums.get(key, (0, 0.0, 0.0))
        sums[key] = (count + 1, total + amount, max(largest, amount))
    return sums


def expected_changes(n):
    """By user; a user is there only while the count is no multiple of three."""
    sums = {}
    for i, user, _, amount in events(n):
        if i % 7 > 0:
            count, total, largest = sums.get(user, (0, 0.0, 0.0))
            sums[user] = (count + 1, total + amount, max(largest, amount))
    return {user: row for user, row in sums.items() if row[0] % 3 > 0}


def produce(kafka, topic, n):
    admin = AdminClient({"bootstrap.servers": kafka})
    for future in admin.create_topics([NewTopic(topic, num_partitions=4, replication_factor=1)]).values():
        future.result(60)
    producer = Producer({"bootstrap.servers": kafka, "linger.ms": 20, "enable.idempotence": True})
    for i, user, at_ms, amount in events(n):
        value = json.dumps({"id": i, "user": user, "ts": at_ms, "amount": amount}).encode()
        while True:
            try:
                producer.produce(topic, value, partition=i % 4)
                break
            except BufferError:
                producer.poll(0.1)
        if i % 10_000 == 0:
            producer.poll(0)
    left = producer.flush(120)
    assert left == 0, f"{left} events were not delivered"


def job(kafka, cassandra, source, sink, table):
    return f"""
SET job.name = 'live';
SET job.parallelism = '2';
SET job.cpus = '0.5';
SET checkpoint.interval = '1s';
CREATE TABLE payments (
    id BIGINT, "user" VARCHAR, ts TIMESTAMP, amount DOUBLE,
    WATERMARK FOR ts AS ts - INTERVAL '5 seconds'
) WITH (connector = 'kafka', bootstrap.servers = '{kafka}', topic = '{source}', format = 'json', scan.bounded = 'latest');
CREATE VIEW sums AS
SELECT "user", window_start, COUNT(*) AS n, SUM(amount) AS total, MAX(amount) AS largest
FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '10 seconds'))
GROUP BY "user", window_start, window_end;
CREATE TABLE sums_topic ("user" VARCHAR, window_start TIMESTAMP, n BIGINT, total DOUBLE, largest DOUBLE)
WITH (connector = 'kafka', bootstrap.servers = '{kafka}', topic = '{sink}', format = 'json', key.fields = 'user',
      create_topic = 'true', partitions = '4');
CREATE TABLE sums_table ("user" VARCHAR, window_start TIMESTAMP, n BIGINT, total DOUBLE, largest DOUBLE,
    PRIMARY KEY ("user", window_start) NOT ENFORCED)
WITH (connector = 'cassandra', contact_points = '{cassandra}', keyspace = 'smack_live', table = '{table}',
      create_keyspace = 'true', create_table = 'true');
CREATE TABLE users_topic ("user" VARCHAR, n BIGINT, total DOUBLE, largest DOUBLE, PRIMARY KEY ("user") NOT ENFORCED)
WITH (connector = 'kafka', bootstrap.servers = '{kafka}', topic = '{sink}-users', format = 'json', changelog = 'upsert',
      create_topic = 'true', partitions = '4');
CREATE TABLE users_table ("user" VARCHAR, n BIGINT, total DOUBLE, largest DOUBLE, PRIMARY KEY ("user") NOT ENFORCED)
WITH (connector = 'cassandra', contact_points = '{cassandra}', keyspace = 'smack_live', table = '{table}_users',
      create_keyspace = 'true', create_table = 'true');
CREATE VIEW users AS
SELECT "user", COUNT(*) AS n, SUM(amount) AS total, MAX(amount) AS largest FROM payments WHERE id % 7 > 0
GROUP BY "user" HAVING COUNT(*) % 3 > 0;
INSERT INTO users_topic SELECT "user", n, total, largest FROM users;
INSERT INTO users_table SELECT "user", n, total, largest FROM users;
INSERT INTO sums_topic SELECT "user", window_start, n, total, largest FROM sums;
INSERT INTO sums_table SELECT "user", window_start, n, total, largest FROM sums;
"""


def read_topic(kafka, topic):
    consumer = Consumer({
        "bootstrap.servers": kafka, "group.id": f"check-{uuid.uuid4()}", "isolation.level": "read_committed",
        "enable.auto.commit": False, "auto.offset.reset": "earliest", "enable.partition.eof": True,
    })
    partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    rows, ended = [], set()
    while len(ended) < len(partitions):
        message = consumer.poll(30)
        assert message is not None, "the topic did not come to its end within 30 s"
        if message.error():
            ended.add(message.partition())
        else:
            value = message.value()
            rows.append((message.key(), None if value is None else json.loads(value)))
    consumer.close()
    return rows


def millis(text):
    import datetime
    return round(datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--smack", required=True)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--no-kill", action="store_true")
    args = parser.parse_args()
    kafka, cassandra = os.environ["SMACK_KAFKA"], os.environ["SMACK_CASSANDRA"]
    run = uuid.uuid4().hex[:8]
    source, sink, table = f"payments-{run}", f"sums-{run}", f"sums_{run}"

    began = time.time()
    produce(kafka, source, args.events)
    print(f"wrote {args.events} events to {source} in {time.time() - began:.1f} s", flush=True)

    with tempfile.TemporaryDirectory(prefix="smack-live-") as folder:
        folder = pathlib.Path(folder)
        (folder / "live.sql").write_text(job(kafka, cassandra, source, sink, table))
        cluster = Dev(pathlib.Path(args.smack).resolve(), folder)
        try:
            began = time.time()
            cluster.call("submit", "live.sql")
            killed = args.no_kill
            deadline = time.time() + 600
            while True:
                view = cluster.job()
                rows_in = view["metrics"]["rows_in"]
                if not killed and rows_in > args.events * 0.2 and view["metrics"]["checkpoint_epoch"]:
                    pid = cluster.task_pids()[0]
                    os.kill(pid, signal.SIGKILL)
                    print(f"killed task {pid} after {rows_in} rows and checkpoint {view['metrics']['checkpoint_epoch']}",
                          flush=True)
                    killed = True
                if view["state"] in ("finished", "failed", "stopped"):
                    break
                assert time.time() < deadline, view
                time.sleep(0.05)
            seconds = time.time() - began
            assert view["state"] == "finished", view
            assert killed, "the job ended before a task could be killed; give more events"
            assert args.no_kill or view["restarts"] >= 1, view
            print(f"finished in {seconds:.1f} s: {view['metrics']['rows_in']} rows in over {view['generation']} "
                  f"generations, {view['restarts']} restarts", flush=True)
        finally:
            cluster.end()

    want = expected(args.events)
    rows = read_topic(kafka, sink)
    got = {}
    for _, row in rows:
        key = (row["user"], millis(row["window_start"]))
        assert key not in got, f"{key} is in the topic twice"
        got[key] = (row["n"], row["total"], row["largest"])
    assert got == want, f"the topic differs: {len(got)} rows, {len(want)} expected"
    print(f"topic {sink}: {len(got)} rows, each once, equal to the batch answer", flush=True)

    want_users = expected_changes(args.events)
    rows = read_topic(kafka, f"{sink}-users")
    got = {}
    for key, row in rows:
        if row is None:
            got.pop(key, None)
        else:
            got[key] = row
    got = {row["user"]: (row["n"], row["total"], row["largest"]) for row in got.values()}
    assert got == want_users, f"the topic by key differs: {len(got)} users, {len(want_users)} expected"
    gone = sum(1 for _, row in rows if row is None)
    print(f"topic {sink}-users: {len(rows)} records, {gone} of them tombstones, leave {len(got)} users, equal to the batch "
          "answer", flush=True)

    host, port = cassandra.rsplit(":", 1)
    nodes = Cluster([host], port=int(port))
    session = nodes.connect("smack_live")
    session.default_fetch_size = 5000
    import calendar
    got = {}
    for row in session.execute(f'SELECT "user", window_start, n, total, largest FROM {table}', timeout=60):
        at_ms = calendar.timegm(row.window_start.utctimetuple()) * 1000 + row.window_start.microsecond // 1000
        got[(row.user, at_ms)] = (row.n, row.total, row.largest)
    users = session.execute(f'SELECT "user", n, total, largest FROM {table}_users', timeout=60)
    got_users = {row.user: (row.n, row.total, row.largest) for row in users}
    nodes.shutdown()
    assert got_users == want_users, f"the Cassandra table by user differs: {len(got_users)}, {len(want_users)} expected"
    print(f"table smack_live.{table}_users: {len(got_users)} users, equal to the batch answer", flush=True)
    assert got == want, f"the Cassandra table differs: {len(got)} rows, {len(want)} expected"
    print(f"table smack_live.{table}: {len(got)} rows, equal to the batch answer", flush=True)


if __name__ == "__main__":
    sys.exit(main())
