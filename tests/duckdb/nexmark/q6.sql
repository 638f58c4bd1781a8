-- Average selling price by seller: over the last 10 auctions of a seller and this one, in the order of their winning bids.
-- Of equal prices the earlier bid wins; the rest of the order settles what the definition leaves open.
WITH won AS (
    SELECT DISTINCT ON (a.id) a.id, a.seller, b.price, b.dateTime AS sold
    FROM auction AS a JOIN bid AS b ON a.id = b.auction AND b.dateTime >= a.dateTime AND b.dateTime <= a.expires
    ORDER BY a.id, b.price DESC, b.dateTime, b.bidder, b.extra
), numbered AS (
    SELECT seller, price, row_number() OVER (PARTITION BY seller ORDER BY sold, id) AS n FROM won
)
SELECT this.seller AS seller, avg(earlier.price) AS price
FROM numbered AS this JOIN numbered AS earlier ON earlier.seller = this.seller AND earlier.n BETWEEN this.n - 10 AND this.n
GROUP BY this.seller, this.n
