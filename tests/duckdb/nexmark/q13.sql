-- Bounded side input join: bids with what a file says of them.
SELECT auction, bidder, price, dateTime, value FROM bid, side_input WHERE mod(auction, 1000) = key
