-- Highest bid: those bids that are the highest of a period of 10 seconds. Both of a period's bounds count, so a bid between
-- two periods may be found in both.
WITH highest AS (
    SELECT (epoch_ms(dateTime) // 10000 + 1) * 10000 AS ends, max(price) AS price FROM bid GROUP BY ends
)
SELECT b.auction, b.price, b.bidder, b.dateTime, b.extra
FROM bid AS b JOIN highest AS h ON b.price = h.price AND epoch_ms(b.dateTime) BETWEEN h.ends - 10000 AND h.ends
