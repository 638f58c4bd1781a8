-- Winning bids: of each auction the highest bid while it was open, the earliest of equal ones; the rest of the order settles
-- what the definition leaves open.
SELECT DISTINCT ON (a.id) a.id, a.itemName, a.description, a.initialBid, a.reserve, a.dateTime, a.expires, a.seller,
    a.category, a.extra, b.auction, b.bidder, b.price, b.dateTime AS bid_dateTime, b.extra AS bid_extra
FROM auction AS a JOIN bid AS b ON a.id = b.auction AND b.dateTime >= a.dateTime AND b.dateTime <= a.expires
ORDER BY a.id, b.price DESC, b.dateTime, b.bidder, b.extra
