-- How many bids each bidder makes in ten seconds of the wall clock: another answer in every run.

CREATE TABLE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR,
  dateTime TIMESTAMP(3), extra VARCHAR,
  p_time AS PROCTIME(),
  WATERMARK FOR p_time AS p_time
) WITH (connector = 'nexmark', kind = 'bid', events = '1000000');

CREATE TABLE result (
  bidder BIGINT, bid_count BIGINT, starttime TIMESTAMP(3), endtime TIMESTAMP(3)
) WITH (connector = 'blackhole');

INSERT INTO result
SELECT bidder, COUNT(*) AS bid_count, window_start AS starttime, window_end AS endtime
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(p_time), INTERVAL '10 seconds'))
GROUP BY bidder, window_start, window_end;
