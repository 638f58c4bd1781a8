-- Auction statistics: bids of each auction and day, and the least, largest, average and whole of their prices.
SELECT auction, dateTime::DATE AS day,
    count(*) AS total_bids,
    sum((price < 10000)::BIGINT) AS rank1_bids,
    sum((price >= 10000 AND price < 1000000)::BIGINT) AS rank2_bids,
    sum((price >= 1000000)::BIGINT) AS rank3_bids,
    min(price) AS min_price, max(price) AS max_price, sum(price) / count(price) AS avg_price, sum(price) AS sum_price
FROM bid
GROUP BY auction, dateTime::DATE
