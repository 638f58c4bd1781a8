"""The embedded broker as Python's confluent-kafka sees it: python check.py HOST:PORT [again]

`again` is after `kill -9` of the broker: what the first run left must be there.
"""

import sys
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

AT = sys.argv[1]
AGAIN = sys.argv[2:] == ["again"]
N = 100_000


def producer(**options):
    return Producer({"bootstrap.servers": AT} | {key.replace("_", "."): value for key, value in options.items()})


def values(topic, isolation="read_committed"):
    consumer = Consumer({
        "bootstrap.servers": AT, "group.id": "check", "isolation.level": isolation,
        "enable.auto.commit": False, "enable.partition.eof": True,
    })
    consumer.assign([TopicPartition(topic, 0, 0)])
    found = []
    until = time.time() + 60
    while time.time() < until:
        message = consumer.poll(1)
        if message is None:
            continue
        if message.error():
            consumer.close()
            return found
        found.append(message.value())
    raise SystemExit(f"no end of {topic}")


def transactions():
    first = producer(transactional_id="py")
    first.init_transactions(30)
    for value, commit in [(b"a", True), (b"b", False), (b"c", True)]:
        first.begin_transaction()
        first.produce("py-x", value, partition=0)
        first.flush(30)
        first.commit_transaction(30) if commit else first.abort_transaction(30)
    first.begin_transaction()
    first.produce("py-x", b"of the zombie", partition=0)
    first.flush(30)
    second = producer(transactional_id="py")
    second.init_transactions(30)
    try:
        first.commit_transaction(30)
    except KafkaException as error:
        assert error.args[0].fatal(), error
    else:
        raise SystemExit("the earlier producer was not fenced")


def rates():
    into = producer(linger_ms=20, queue_buffering_max_messages=1_000_000)
    started = time.time()
    for at in range(N):
        into.produce("py-rate", b"x" * 100)
    into.flush(60)
    seconds_in = time.time() - started
    started = time.time()
    assert len(values("py-rate")) == N
    print(f"ok: {N / seconds_in:,.0f} records/s in, {N / (time.time() - started):,.0f} records/s out, of 100 bytes")


if not AGAIN:
    admin = AdminClient({"bootstrap.servers": AT})
    for future in admin.create_topics([NewTopic("py-x", 1), NewTopic("py-rate", 1)]).values():
        future.result()
    transactions()
    rates()
assert values("py-x") == [b"a", b"c"], values("py-x")
assert values("py-x", "read_uncommitted") == [b"a", b"b", b"c", b"of the zombie"]
assert len(values("py-rate")) == N
print("ok: confluent-kafka" + (", after kill -9" if AGAIN else ""))
