-- Dear bids, with the time of day and a count of letters.

CREATE TABLE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR,
  dateTime TIMESTAMP(3), extra VARCHAR,
  WATERMARK FOR dateTime AS dateTime - INTERVAL '4 seconds'
) WITH (connector = 'nexmark', kind = 'bid', events = '1000000');

CREATE TABLE result (
  auction BIGINT, bidder BIGINT, price DECIMAL(38, 3), bidTimeType VARCHAR, dateTime TIMESTAMP(3), extra VARCHAR,
  c_counts BIGINT
) WITH (connector = 'blackhole');

INSERT INTO result
SELECT auction, bidder, CAST(0.908 AS DECIMAL(4, 3)) * price AS price,
    CASE
        WHEN EXTRACT(HOUR FROM dateTime) BETWEEN 8 AND 18 THEN 'dayTime'
        WHEN EXTRACT(HOUR FROM dateTime) <= 6 OR EXTRACT(HOUR FROM dateTime) >= 20 THEN 'nightTime'
        ELSE 'otherTime'
    END AS bidTimeType,
    dateTime, extra, count_char(extra, 'c') AS c_counts
FROM bid
WHERE CAST(0.908 AS DECIMAL(4, 3)) * price > 1000000 AND CAST(0.908 AS DECIMAL(4, 3)) * price < 50000000;
