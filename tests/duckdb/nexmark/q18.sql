-- Last bid: of each bidder on each auction; the rest of the order settles what the definition leaves open.
SELECT DISTINCT ON (bidder, auction) auction, bidder, price, channel, url, dateTime, extra
FROM bid
ORDER BY bidder, auction, dateTime DESC, price DESC, extra
