-- Bidding statistics: bids, bidders and auctions of each day, in three ranks of price.
SELECT dateTime::DATE AS day,
    count(*) AS total_bids,
    sum((price < 10000)::BIGINT) AS rank1_bids,
    sum((price >= 10000 AND price < 1000000)::BIGINT) AS rank2_bids,
    sum((price >= 1000000)::BIGINT) AS rank3_bids,
    count(DISTINCT bidder) AS total_bidders,
    count(DISTINCT CASE WHEN price < 10000 THEN bidder END) AS rank1_bidders,
    count(DISTINCT CASE WHEN price >= 10000 AND price < 1000000 THEN bidder END) AS rank2_bidders,
    count(DISTINCT CASE WHEN price >= 1000000 THEN bidder END) AS rank3_bidders,
    count(DISTINCT auction) AS total_auctions,
    count(DISTINCT CASE WHEN price < 10000 THEN auction END) AS rank1_auctions,
    count(DISTINCT CASE WHEN price >= 10000 AND price < 1000000 THEN auction END) AS rank2_auctions,
    count(DISTINCT CASE WHEN price >= 1000000 THEN auction END) AS rank3_auctions
FROM bid
GROUP BY day
