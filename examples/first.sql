-- A first pipeline: 20,000 generated card payments, summed up per country and five minutes of their own time.
--
--     smack run examples/first.sql
--
-- Nothing else is needed: rows come from a generator, and a SELECT by itself prints its result.

-- A table says what rows look like and where they are. The watermark says how late a row may be: once a payment of
-- 12:00:02 was seen, none from before 12:00:00 is expected any more, so windows up to there can be closed.
CREATE TABLE payments (
    id BIGINT,
    card BIGINT,
    ts TIMESTAMP,
    amount DOUBLE,
    country VARCHAR,
    WATERMARK FOR ts AS ts - INTERVAL '2 seconds'
) WITH (
    connector = 'cards',    -- `smack connectors` lists what else there is
    rows = '20000'          -- leave this out and the stream never ends
);

-- TUMBLE cuts time into windows that touch but do not overlap. Each is answered once, when the watermark passes its end.
SELECT
    window_start,
    country,
    COUNT(*) AS payments,
    ROUND(SUM(amount), 2) AS turnover,
    MAX(amount) AS largest
FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '5 minutes'))
WHERE country IN ('US', 'DE', 'GB', 'FR')
GROUP BY country, window_start, window_end;
