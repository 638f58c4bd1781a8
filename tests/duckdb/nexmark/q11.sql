-- User sessions: how many bids a user made in each session; 10 seconds without one end it. As in Beam, where Nexmark comes
-- from, a bid after exactly that long is of another session: windows that only touch are two.
WITH marked AS (
    SELECT bidder, dateTime, coalesce(
        dateTime - lag(dateTime) OVER (PARTITION BY bidder ORDER BY dateTime) >= INTERVAL 10 SECONDS, true
    ) AS begins
    FROM bid
), numbered AS (
    SELECT bidder, dateTime, count(*) FILTER (WHERE begins) OVER (
        PARTITION BY bidder ORDER BY dateTime RANGE UNBOUNDED PRECEDING
    ) AS session
    FROM marked
)
SELECT bidder, count(*) AS bid_count, min(dateTime) AS starttime, max(dateTime) + INTERVAL 10 SECONDS AS endtime
FROM numbered
GROUP BY bidder, session
