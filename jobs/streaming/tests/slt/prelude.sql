-- The tables that all cases share; their rows are made by data.rs.

CREATE TABLE payments (
  id BIGINT, card BIGINT, shop VARCHAR, amount BIGINT, rate DOUBLE, price DECIMAL(8, 2), ok BOOLEAN, ts TIMESTAMP,
  twice AS amount * 2,
  WATERMARK FOR ts AS ts - INTERVAL '2 seconds'
) WITH (connector = 'files', path = 'payments');

CREATE TABLE events (
  event BIGINT, person VARCHAR, kind VARCHAR, value BIGINT, ts TIMESTAMP,
  WATERMARK FOR ts AS ts - INTERVAL '1 second'
) WITH (connector = 'files', path = 'events');

CREATE TABLE orders (
  order_id BIGINT, card BIGINT, item VARCHAR, quantity INT, total DOUBLE, ts TIMESTAMP,
  WATERMARK FOR ts AS ts - INTERVAL '3 seconds'
) WITH (connector = 'files', path = 'orders');

CREATE TABLE shipments (
  shipment_id BIGINT, order_id BIGINT, carrier VARCHAR, weight DOUBLE, ts TIMESTAMP,
  WATERMARK FOR ts AS ts - INTERVAL '5 seconds'
) WITH (connector = 'files', path = 'shipments');

CREATE TABLE prices (
  item VARCHAR, price BIGINT, note VARCHAR, ts TIMESTAMP, high AS price * 10,
  PRIMARY KEY (item) NOT ENFORCED,
  WATERMARK FOR ts AS ts - INTERVAL '2 seconds'
) WITH (connector = 'files', path = 'prices');

CREATE TABLE people (
  card BIGINT, name VARCHAR, city VARCHAR, age INT, level TINYINT, points SMALLINT, height FLOAT, born DATE
) WITH (connector = 'files', path = 'people');

CREATE TABLE pairs (k BIGINT, v BIGINT, s VARCHAR) WITH (connector = 'files', path = 'pairs');

CREATE TABLE nothing (
  a BIGINT, b VARCHAR, ts TIMESTAMP,
  WATERMARK FOR ts AS ts
) WITH (connector = 'files', path = 'nothing');

-- Written by the cases that are refused, and by nothing else.
CREATE TABLE forgotten (k BIGINT, n BIGINT) WITH (connector = 'blackhole');
CREATE TABLE kept (k BIGINT, n BIGINT) WITH (connector = 'files', path = 'kept');

CREATE VIEW big AS SELECT id, card, shop, amount, ts FROM payments WHERE amount > 60;
