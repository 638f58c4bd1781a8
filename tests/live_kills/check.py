"""Every row once, however often a task is killed.

Confluent's client writes events to a topic of four partitions of a real Kafka, without a pause; `smack submit` copies them
into another topic, exactly once, and counts them by user into a third one. On the way the topic gains two partitions, and
another topic comes that fits the job's pattern; both get their share of the events. Meanwhile tasks are killed with SIGKILL: some
at random, the others at failpoints (see connectors/src/failpoint.rs), which only debug builds have. At the end a
read_committed consumer must see each event once, and the right counts.

    SMACK_KAFKA=host:port python check.py --smack PATH [--events N] [--kills N] [--seed N]
"""

import argparse
import json
import os
import pathlib
import random
import signal
import sys
import tempfile
import threading
import time
import uuid

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "live_submit"))
from cluster import Dev  # noqa: E402

USERS = 97
PARTITIONS = 4
# Each with what a kill there falls between.
FAILPOINTS = {
    "snapshot.prepared": "between flush and manifest",
    "commit.before": "between manifest and commit",
    "kafka.commit.before_ack": "between commit and its acknowledgement",
    "kafka.commit.sent": "between manifest and commit, all records sent",
}


def event(i):
    return {"id": i, "user": f"user-{i * 7919 % USERS}", "amount": i * 31 % 4000 * 0.25}


class Feed(threading.Thread):
    """Writes events up to a limit that rises, and never stands quite still before the end."""

    def __init__(self, kafka, topic, events):
        super().__init__(daemon=True)
        self.events, self.limit, self.sent, self.error = events, 0, 0, None
        # Where events go, in turn.
        self.places = [(topic, partition) for partition in range(PARTITIONS)]
        self.producer = Producer({
            "bootstrap.servers": kafka, "linger.ms": 10, "enable.idempotence": True,
            # New partitions are to be known soon.
            "topic.metadata.refresh.interval.ms": 500,
        })

    def run(self):
        try:
            # Some steps for each rise of the limit; a little also without one.
            while self.sent < self.events:
                step = max(self.events // 500, 5) if self.sent < self.limit else 5
                if self.limit < self.events:
                    # What is left keeps the rest of the kills busy.
                    step = min(step, max(self.events - self.sent - 100, 0))
                else:
                    step = self.events - self.sent
                for i in range(self.sent, self.sent + step):
                    self.write(i)
                self.sent += step
                self.producer.poll(0)
                time.sleep(0.05)
            left = self.producer.flush(120)
            assert left == 0, f"{left} events were not delivered"
        except Exception as error:  # told by whoever waits for the end
            self.error = error

    def write(self, i):
        value = json.dumps(event(i)).encode()
        topic, partition = self.places[i % len(self.places)]
        while True:
            try:
                return self.producer.produce(topic, value, partition=partition)
            except BufferError:
                self.producer.poll(0.1)
            except KafkaException as error:
                # The client has not heard of the new partition yet.
                if error.args[0].code() != KafkaError._UNKNOWN_PARTITION:
                    raise
                self.producer.poll(0.1)


def job(kafka, source, copies, counts):
    return f"""
SET job.name = 'kills';
SET job.parallelism = '2';
SET job.cpus = '0.5';
SET checkpoint.interval = '500ms';
CREATE TABLE events (id BIGINT, "user" VARCHAR, amount DOUBLE)
WITH (connector = 'kafka', bootstrap.servers = '{kafka}', topic.pattern = '{source}.*',
      scan.discovery = '500ms');
CREATE TABLE copies (id BIGINT, "user" VARCHAR, amount DOUBLE)
WITH (connector = 'kafka', bootstrap.servers = '{kafka}', topic = '{copies}', key.fields = 'user',
      create_topic = 'true', partitions = '4');
CREATE TABLE counts ("user" VARCHAR, n BIGINT, PRIMARY KEY ("user") NOT ENFORCED)
WITH (connector = 'kafka', bootstrap.servers = '{kafka}', topic = '{counts}', changelog = 'upsert',
      create_topic = 'true', partitions = '4');
INSERT INTO copies SELECT id, "user", amount FROM events;
INSERT INTO counts SELECT "user", COUNT(*) AS n FROM events GROUP BY "user";
"""


class Reader:
    """What a read_committed client has seen of a topic."""

    def __init__(self, kafka, topic):
        self.topic, self.rows = topic, []
        self.consumer = Consumer({
            "bootstrap.servers": kafka, "group.id": f"check-{uuid.uuid4()}", "isolation.level": "read_committed",
            "enable.auto.commit": False, "auto.offset.reset": "earliest",
        })
        partitions = self.consumer.list_topics(topic, timeout=30).topics[topic].partitions
        self.consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])

    def read(self, take, quiet=2.0):
        """Gives all that there is to `take`, until nothing has come for a while."""
        until = time.time() + quiet
        while time.time() < until:
            messages = self.consumer.consume(5000, timeout=0.5)
            for message in messages:
                assert not message.error(), message.error()
                take(message)
            if messages:
                until = time.time() + quiet


def create(admin, topic, partitions):
    for future in admin.create_topics([NewTopic(topic, num_partitions=partitions, replication_factor=1)]).values():
        future.result(60)


def grow(admin, source, feed, step):
    """First two partitions more, then one topic more."""
    if step == 0:
        for future in admin.create_partitions([NewPartitions(source, PARTITIONS + 2)]).values():
            future.result(60)
        more = [(source, PARTITIONS), (source, PARTITIONS + 1)]
    else:
        create(admin, f"{source}-more", 2)
        more = [(f"{source}-more", 0), (f"{source}-more", 1)]
    time.sleep(1)
    feed.places = feed.places + more
    print(f"          from now on also to {', '.join(f'{topic}/{partition}' for topic, partition in more)}", flush=True)


def wait_until(what, condition, feed, patience=180):
    deadline = time.time() + patience
    while not condition():
        assert feed.error is None, feed.error
        assert time.time() < deadline, f"{what}: not within {patience} s"
        time.sleep(0.05)


def kill_one(cluster, folder, epoch_before, feed, failpoint, chance):
    """One task dies; gives the phase in which it did, and the last epoch before."""
    def running():
        view = cluster.job()
        assert view["state"] not in ("failed", "finished", "stopped"), view
        return view["state"] == "running"

    wait_until("the job runs again", running, feed)
    if failpoint is None and chance.random() < 0.3:
        # As soon as it runs: restoring, and finishing what an earlier generation had prepared.
        what = "at random, while it starts"
        time.sleep(chance.random() * 0.3)
    else:
        wait_until("a checkpoint of the new generation",
                   lambda: (cluster.job()["metrics"]["checkpoint_epoch"] or 0) > epoch_before, feed)
        what = "at random"
    if failpoint is not None:
        marker = folder / failpoint
        marker.touch()
        wait_until(f"failpoint {failpoint}", lambda: not marker.exists(), feed)
        return f"at failpoint {failpoint}: {FAILPOINTS[failpoint]}", cluster.job()["metrics"]["checkpoint_epoch"] or 0
    if what == "at random":
        time.sleep(chance.random() * 1.0)
    wait_until("a task to kill", cluster.task_pids, feed)
    pids = cluster.task_pids()
    try:
        os.kill(chance.choice(pids), signal.SIGKILL)
    except (ProcessLookupError, IndexError):
        what += " (it had just ended by itself)"
    return what, cluster.job()["metrics"]["checkpoint_epoch"] or 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--smack", required=True)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    kafka, chance = os.environ["SMACK_KAFKA"], random.Random(args.seed)
    run = uuid.uuid4().hex[:8]
    source, copies, counts = (f"{stem}-{run}" for stem in ("kills-events", "kills-copies", "kills-counts"))
    admin = AdminClient({"bootstrap.servers": kafka})
    create(admin, source, PARTITIONS)
    # Every second kill lands at a failpoint, each of them in turn.
    plan = [list(FAILPOINTS)[at // 2 % len(FAILPOINTS)] if at % 2 == 0 else None for at in range(args.kills)]
    feed = Feed(kafka, source, args.events)
    feed.start()
    began = time.time()
    with tempfile.TemporaryDirectory(prefix="smack-kills-") as folder:
        folder = pathlib.Path(folder)
        armed = folder / "failpoints"
        armed.mkdir()
        (folder / "kills.sql").write_text(job(kafka, source, copies, counts))
        cluster = Dev(pathlib.Path(args.smack).resolve(), folder, {**os.environ, "SMACK_FAILPOINTS": str(armed)})
        try:
            cluster.call("submit", "kills.sql")
            epoch, phases = 0, {}
            for kill, failpoint in enumerate(plan):
                if kill in (args.kills // 3, args.kills * 2 // 3):
                    grow(admin, source, feed, 0 if kill == args.kills // 3 else 1)
                feed.limit = args.events * (kill + 1) // (args.kills + 1)
                phase, epoch = kill_one(cluster, armed, epoch, feed, failpoint, chance)
                phases[phase] = phases.get(phase, 0) + 1
                print(f"{time.time() - began:7.1f} s  kill {kill + 1:2} of {args.kills}: {phase}; epoch {epoch}, "
                      f"{feed.sent} events written", flush=True)
            feed.limit = args.events
            feed.join(300)
            assert feed.error is None and not feed.is_alive(), feed.error or "the events could not be written"

            seen, wrong = bytearray(args.events), []

            def take(message):
                row = json.loads(message.value())
                if seen[row["id"]] or row != event(row["id"]) or message.key().decode() != row["user"]:
                    wrong.append((message.partition(), message.offset(), row))
                seen[row["id"]] = 1

            reader, deadline = Reader(kafka, copies), time.time() + 300
            while sum(seen) < args.events and not wrong:
                assert time.time() < deadline, f"{args.events - sum(seen)} of {args.events} events are missing"
                reader.read(take)
            # What comes twice might come late.
            reader.read(take, quiet=3.0)
            assert not wrong, f"{len(wrong)} records are there twice, or differ; the first: {wrong[0]}"
            want = {}
            for i in range(args.events):
                user = event(i)["user"]
                want[user] = want.get(user, 0) + 1
            got = {}
            reader, deadline = Reader(kafka, counts), time.time() + 120

            def count(message):
                got[message.key().decode()] = None if message.value() is None else json.loads(message.value())["n"]

            while got != want:
                assert time.time() < deadline, f"counts differ: {got} {want}"
                reader.read(count)
            view = cluster.job()
            print(f"{args.events} events, each once in {copies}, and the right counts of {len(want)} users in {counts}, after "
                  f"{args.kills} kills in {time.time() - began:.0f} s: {view['generation']} generations", flush=True)
            for phase, n in sorted(phases.items()):
                print(f"  {n:2} {phase}", flush=True)
            assert view["generation"] > args.kills // 2, view
            if args.kills >= 50:
                at_failpoints = sum(n for phase, n in phases.items() if "failpoint" in phase)
                assert at_failpoints >= 15, f"{at_failpoints} kills at failpoints"
        except BaseException:
            for log in sorted(folder.glob(".smack/*.log")):
                print(f"--- {log.name}", *log.read_text().splitlines()[-15:], sep="\n", file=sys.stderr)
            raise
        finally:
            cluster.end()


if __name__ == "__main__":
    sys.exit(main())
