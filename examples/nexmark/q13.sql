-- Every bid with a word about its auction from a file beside.

CREATE TABLE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR,
  dateTime TIMESTAMP(3), extra VARCHAR,
  WATERMARK FOR dateTime AS dateTime - INTERVAL '4 seconds'
) WITH (connector = 'nexmark', kind = 'bid', events = '1000000');

CREATE TABLE side_input (key BIGINT, value VARCHAR) WITH (connector = 'files', path = 'side_input.csv', format = 'csv');
CREATE TABLE result (
  auction BIGINT, bidder BIGINT, price BIGINT, dateTime TIMESTAMP(3), value VARCHAR
) WITH (connector = 'blackhole');

INSERT INTO result
SELECT B.auction, B.bidder, B.price, B.dateTime, S.value
FROM bid AS B JOIN side_input AS S ON B.auction % 1000 = S.key;
