-- Bids with their auction, of category 10.
SELECT b.auction, b.bidder, b.price, b.channel, b.url, b.dateTime AS bid_dateTime, b.extra AS bid_extra,
    a.itemName, a.description, a.initialBid, a.reserve, a.dateTime AS auction_dateTime, a.expires, a.seller, a.category,
    a.extra AS auction_extra
FROM (SELECT * FROM auction WHERE category = 10) AS a, bid AS b
WHERE a.id = b.auction
