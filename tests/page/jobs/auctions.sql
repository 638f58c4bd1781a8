-- A stream with exchanges, windows and a join: the auctions with the most bids of the last ten seconds.

SET job.name = 'auctions';
SET job.parallelism = '2';
SET job.cpus = '0.2';
SET job.mem = '256MiB';
SET checkpoint.interval = '2s';

CREATE TABLE bid (
    auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, dateTime TIMESTAMP(3), extra VARCHAR,
    WATERMARK FOR dateTime AS dateTime - INTERVAL '4 seconds'
) WITH (connector = 'nexmark', kind = 'bid', rate = '500', 'event.rate' = '500');

CREATE TABLE most (auction BIGINT, num BIGINT) WITH (connector = 'kafka', topic = 'most', format = 'json');

INSERT INTO most
WITH counts AS (
    SELECT auction, window_start, window_end, COUNT(*) AS num
    FROM TABLE(HOP(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '2 seconds', INTERVAL '10 seconds'))
    GROUP BY auction, window_start, window_end
), most AS (
    SELECT window_start, window_end, MAX(num) AS num FROM counts GROUP BY window_start, window_end
)
SELECT C.auction, C.num
FROM counts AS C
JOIN most AS M ON C.window_start = M.window_start AND C.window_end = M.window_end AND C.num >= M.num;
