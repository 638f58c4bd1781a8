-- Hot items: the auctions with most bids in each period of 10 seconds, one of which begins every 2 seconds.
WITH periods AS (
    SELECT auction, (epoch_ms(dateTime) // 2000 - back) * 2000 AS begins FROM bid, range(5) AS r(back)
), counted AS (
    SELECT begins, auction, count(*) AS num FROM periods GROUP BY begins, auction
)
SELECT auction, num
FROM counted AS c
WHERE num = (SELECT max(num) FROM counted AS d WHERE d.begins = c.begins)
