-- Prices of bids in another currency.

CREATE TABLE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR,
  dateTime TIMESTAMP(3), extra VARCHAR,
  WATERMARK FOR dateTime AS dateTime - INTERVAL '4 seconds'
) WITH (connector = 'nexmark', kind = 'bid', events = '1000000');

CREATE TABLE result (
  auction BIGINT, bidder BIGINT, price DECIMAL(38, 3), dateTime TIMESTAMP(3), extra VARCHAR
) WITH (connector = 'blackhole');

INSERT INTO result
SELECT auction, bidder, CAST(0.908 AS DECIMAL(4, 3)) * price AS price, dateTime, extra FROM bid;
