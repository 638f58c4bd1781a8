-- All bids into files, with day and minute.

CREATE TABLE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR,
  dateTime TIMESTAMP(3), extra VARCHAR,
  WATERMARK FOR dateTime AS dateTime - INTERVAL '4 seconds'
) WITH (connector = 'nexmark', kind = 'bid', events = '1000000');

CREATE TABLE result (
  auction BIGINT, bidder BIGINT, price BIGINT, dateTime TIMESTAMP(3), extra VARCHAR,
  day VARCHAR, minute VARCHAR
) WITH (connector = 'files', path = 'q10.out');

INSERT INTO result
SELECT auction, bidder, price, dateTime, extra,
    to_char(dateTime, '%Y-%m-%d') AS day, to_char(dateTime, '%H:%M') AS minute
FROM bid;
