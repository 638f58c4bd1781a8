-- Processing time windows: how many bids a user made in each period of 10 seconds, on the clock of the machine. Which
-- period that was nobody can say again, so the sum over all periods is compared: each bid is in one of them.
SELECT bidder, count(*) AS bid_count FROM bid GROUP BY bidder
