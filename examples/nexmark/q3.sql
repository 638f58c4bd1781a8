-- Who sells in a category, in three states.

CREATE TABLE auction (
  id BIGINT, itemName VARCHAR, description VARCHAR, initialBid BIGINT, reserve BIGINT,
  dateTime TIMESTAMP(3), expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra VARCHAR,
  WATERMARK FOR dateTime AS dateTime - INTERVAL '4 seconds'
) WITH (connector = 'nexmark', kind = 'auction', events = '1000000');

CREATE TABLE person (
  id BIGINT, name VARCHAR, emailAddress VARCHAR, creditCard VARCHAR, city VARCHAR, state VARCHAR,
  dateTime TIMESTAMP(3), extra VARCHAR,
  WATERMARK FOR dateTime AS dateTime - INTERVAL '4 seconds'
) WITH (connector = 'nexmark', kind = 'person', events = '1000000');

CREATE TABLE result (
  name VARCHAR, city VARCHAR, state VARCHAR, id BIGINT
) WITH (connector = 'blackhole');

INSERT INTO result
SELECT P.name, P.city, P.state, A.id
FROM auction AS A JOIN person AS P ON A.seller = P.id
WHERE A.category = 10 AND P.state IN ('OR', 'ID', 'CA');
