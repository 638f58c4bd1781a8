-- From a Kafka topic into another topic and into a Cassandra table, summed up per key and ten seconds of event time:
--
--     docker compose up --detach --wait kafka cassandra
--     docker compose exec kafka /opt/kafka/bin/kafka-topics.sh --bootstrap-server localhost:9092 \
--         --create --topic events --partitions 4
--     smack submit examples/kafka.sql
--
-- Records of the topic `events` are JSON, for example {"key": "a", "ts": 1767225600000, "value": 1.5}. One that cannot
-- be read goes to the dead-letter place and is counted; the job goes on.

SET job.name = 'kafka';
SET job.parallelism = '2';
SET checkpoint.interval = '5s';

CREATE TABLE events (
    key VARCHAR,
    ts TIMESTAMP,
    value DOUBLE,
    WATERMARK FOR ts AS ts - INTERVAL '5 seconds'
) WITH (
    connector = 'kafka',
    bootstrap.servers = '127.0.0.1:9092',
    topic = 'events',
    format = 'json',
    scan.startup = 'earliest',
    watermark.idle = '10s'          -- a partition without records does not hold the others back for longer
);

CREATE VIEW sums AS
SELECT key, window_start, window_end, COUNT(*) AS n, SUM(value) AS total, MAX(value) AS largest
FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10 seconds'))
GROUP BY key, window_start, window_end;

-- Written in transactions that end with each checkpoint: readers with isolation.level = read_committed see every sum once.
CREATE TABLE sums_topic (
    key VARCHAR,
    window_start TIMESTAMP,
    window_end TIMESTAMP,
    n BIGINT,
    total DOUBLE,
    largest DOUBLE
) WITH (
    connector = 'kafka',
    bootstrap.servers = '127.0.0.1:9092',
    topic = 'sums',
    format = 'json',
    key.fields = 'key',
    create_topic = 'true'
);

-- Written onto the primary key: after a crash a sum is written again, onto itself.
CREATE TABLE sums_by_key (
    key VARCHAR,
    window_start TIMESTAMP,
    n BIGINT,
    total DOUBLE,
    largest DOUBLE,
    PRIMARY KEY (key, window_start) NOT ENFORCED
) WITH (
    connector = 'cassandra',
    contact_points = '127.0.0.1:9042',
    keyspace = 'smack',
    table = 'sums_by_key',
    create_keyspace = 'true',
    create_table = 'true'
);

INSERT INTO sums_topic
SELECT key, window_start, window_end, n, total, largest
FROM sums;

INSERT INTO sums_by_key
SELECT key, window_start, n, total, largest
FROM sums;
