-- The highest bids of every ten seconds.

CREATE TABLE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR,
  dateTime TIMESTAMP(3), extra VARCHAR,
  WATERMARK FOR dateTime AS dateTime - INTERVAL '4 seconds'
) WITH (connector = 'nexmark', kind = 'bid', events = '1000000');

CREATE TABLE result (
  auction BIGINT, price BIGINT, bidder BIGINT, dateTime TIMESTAMP(3), extra VARCHAR
) WITH (connector = 'blackhole');

INSERT INTO result
SELECT B.auction, B.price, B.bidder, B.dateTime, B.extra
FROM bid AS B
JOIN (
    SELECT MAX(price) AS price, window_end AS dateTime
    FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '10 seconds'))
    GROUP BY window_start, window_end
) AS M ON B.price = M.price
WHERE B.dateTime BETWEEN M.dateTime - INTERVAL '10 seconds' AND M.dateTime;
