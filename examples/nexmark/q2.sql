-- Bids on some auctions.

CREATE TABLE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR,
  dateTime TIMESTAMP(3), extra VARCHAR,
  WATERMARK FOR dateTime AS dateTime - INTERVAL '4 seconds'
) WITH (connector = 'nexmark', kind = 'bid', events = '1000000');

CREATE TABLE result (
  auction BIGINT, price BIGINT
) WITH (connector = 'blackhole');

INSERT INTO result
SELECT auction, price FROM bid WHERE auction % 123 = 0;
