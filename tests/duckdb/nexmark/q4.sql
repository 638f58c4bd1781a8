-- Average price for a category: of the highest bid that each auction got while it was open.
WITH highest AS (
    SELECT category, (
        SELECT max(price) FROM bid
        WHERE bid.auction = auction.id AND bid.dateTime >= auction.dateTime AND bid.dateTime <= auction.expires
    ) AS final
    FROM auction
)
SELECT category, avg(final) AS price FROM highest WHERE final IS NOT NULL GROUP BY category
