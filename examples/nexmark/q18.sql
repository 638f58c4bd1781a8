-- The last bid of each bidder on each auction.

CREATE TABLE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR,
  dateTime TIMESTAMP(3), extra VARCHAR,
  WATERMARK FOR dateTime AS dateTime - INTERVAL '4 seconds'
) WITH (connector = 'nexmark', kind = 'bid', events = '1000000');

CREATE TABLE result (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, dateTime TIMESTAMP(3), extra VARCHAR
) WITH (connector = 'blackhole');

INSERT INTO result
SELECT auction, bidder, price, channel, url, dateTime, extra
FROM (
    SELECT auction, bidder, price, channel, url, dateTime, extra,
        ROW_NUMBER() OVER (PARTITION BY bidder, auction ORDER BY dateTime DESC, price DESC, extra) AS place
    FROM bid
) AS Q
WHERE place <= 1;
