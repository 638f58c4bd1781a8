-- Currency conversion: each bid in euros, at 0.908 to the dollar.
SELECT auction, bidder, price * 0.908 AS price, dateTime, extra FROM bid
