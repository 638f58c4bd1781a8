-- The average price of each seller's last ten auctions and the one before them. The winner of an auction is the
-- highest bid, and of equal ones the first.

CREATE TABLE auction (
  id BIGINT, itemName VARCHAR, description VARCHAR, initialBid BIGINT, reserve BIGINT,
  dateTime TIMESTAMP(3), expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra VARCHAR,
  WATERMARK FOR dateTime AS dateTime - INTERVAL '4 seconds'
) WITH (connector = 'nexmark', kind = 'auction', events = '1000000');

CREATE TABLE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR,
  dateTime TIMESTAMP(3), extra VARCHAR,
  WATERMARK FOR dateTime AS dateTime - INTERVAL '4 seconds'
) WITH (connector = 'nexmark', kind = 'bid', events = '1000000');

CREATE TABLE result (
  seller BIGINT, price DOUBLE
) WITH (connector = 'blackhole');

INSERT INTO result
SELECT Q.seller, AVG(Q.final) OVER (
    PARTITION BY Q.seller ORDER BY Q.dateTime, Q.id ROWS BETWEEN 10 PRECEDING AND CURRENT ROW
) AS price
FROM (
    SELECT A.id, A.seller, B.price AS final, B.dateTime, ROW_NUMBER() OVER (
        PARTITION BY A.id ORDER BY B.price DESC, B.dateTime, B.bidder, B.extra
    ) AS place
    FROM auction AS A
    JOIN bid AS B ON A.id = B.auction AND B.dateTime BETWEEN A.dateTime AND A.expires
) AS Q
WHERE Q.place <= 1;
