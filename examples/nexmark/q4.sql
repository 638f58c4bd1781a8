-- The average of the prices at which auctions of a category end.

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
  category BIGINT, price DOUBLE
) WITH (connector = 'blackhole');

INSERT INTO result
SELECT Q.category, AVG(Q.final) AS price
FROM (
    SELECT A.category, MAX(B.price) AS final
    FROM auction AS A
    JOIN bid AS B ON A.id = B.auction AND B.dateTime BETWEEN A.dateTime AND A.expires
    GROUP BY A.id, A.category
) AS Q
GROUP BY Q.category;
