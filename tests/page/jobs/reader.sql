-- Reads what the auctions wrote, so that there are partitions with records behind; its rows come and go.

SET job.name = 'reader';
SET job.cpus = '0.1';
SET job.mem = '128MiB';

CREATE TABLE most (auction BIGINT, num BIGINT) WITH (connector = 'kafka', topic = 'most', format = 'json');
CREATE TABLE times (auction BIGINT, n BIGINT, PRIMARY KEY (auction) NOT ENFORCED);

INSERT INTO times SELECT auction, COUNT(*) FROM most GROUP BY auction;
