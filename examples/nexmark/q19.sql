-- The ten highest bids of each auction.

CREATE TABLE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR,
  dateTime TIMESTAMP(3), extra VARCHAR,
  WATERMARK FOR dateTime AS dateTime - INTERVAL '4 seconds'
) WITH (connector = 'nexmark', kind = 'bid', events = '1000000');

CREATE TABLE result (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, dateTime TIMESTAMP(3), extra VARCHAR,
  place BIGINT
) WITH (connector = 'blackhole');

INSERT INTO result
SELECT auction, bidder, price, channel, url, dateTime, extra, CAST(place AS BIGINT) AS place
FROM (
    SELECT auction, bidder, price, channel, url, dateTime, extra,
        ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price DESC, dateTime, bidder, extra) AS place
    FROM bid
) AS Q
WHERE place <= 10;
