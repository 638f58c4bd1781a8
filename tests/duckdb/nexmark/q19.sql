-- Top 10 bids of each auction; the rest of the order settles what the definition leaves open.
SELECT auction, bidder, price, channel, url, dateTime, extra,
    row_number() OVER (PARTITION BY auction ORDER BY price DESC, dateTime, bidder, extra) AS place
FROM bid
QUALIFY place <= 10
