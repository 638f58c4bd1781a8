-- Find stolen cards in a stream of payments, while it flows:
--
--     smack demo fraud                        the whole story on a cluster of its own, with a live view
--     smack submit examples/fraud.sql         the same on a cluster that runs already
--
-- Three jobs come out of this file, and `smack check examples/fraud.sql` lists them:
--   fraud/features   counts what each card does, minute by minute
--   fraud/fraud      learns from these minutes which cards are stolen, once there are enough of them
--   fraud/scores     scores every new minute with what was learnt, and raises alerts

SET job.name = 'fraud';
SET job.parallelism = '2';          -- two tasks per job, so that each agent of a small cluster has one
SET job.cpus = '0.3';               -- per task: all six tasks together fit on two cores
SET job.mem = '256MiB';
SET checkpoint.interval = '2s';     -- a task that is killed goes on from at most two seconds ago

-- The payments. This generator hides who pays: a thief with a stolen card pays often, abroad and online, but a
-- traveller and a shopping spree look much alike, and the amount alone tells little.
-- To read them from Kafka instead, change WITH (…) to connector = 'kafka' and name a topic, see kafka.sql.
CREATE TABLE transactions (
    id BIGINT,
    card BIGINT,
    ts TIMESTAMP,
    amount DOUBLE,
    merchant BIGINT,
    country VARCHAR,
    online BOOLEAN,
    fraud BOOLEAN,                  -- what the bank knows weeks later; only training reads it
    WATERMARK FOR ts AS ts - INTERVAL '2 seconds'
) WITH (
    connector = 'cards',
    cards = '2000',
    rate = '20000',                 -- payments per second
    speed = '120'                   -- two minutes of the cards' time pass in each second of ours
);

-- One row per card and minute: what a person would look at. A view is a name for a query and stores nothing.
CREATE VIEW card_minutes AS
SELECT
    card,
    window_start,
    window_end,
    COUNT(*) AS n,
    SUM(amount) AS total,
    AVG(amount) AS average,
    MAX(amount) AS largest,
    AVG(CASE WHEN online THEN 1.0 ELSE 0.0 END) AS online_share,
    COUNT(DISTINCT country) AS countries,
    COUNT(DISTINCT merchant) AS merchants,
    MAX(CASE WHEN fraud THEN 1 ELSE 0 END) AS label
FROM TABLE(TUMBLE(TABLE transactions, DESCRIPTOR(ts), INTERVAL '1 minute'))
GROUP BY card, window_start, window_end;

-- A table without a connector lives in the cluster's own table store. A row with the same key replaces the earlier one,
-- so a minute that is computed again after a crash is there once.
CREATE TABLE features (
    window_end TIMESTAMP,
    card BIGINT,
    n BIGINT,
    total DOUBLE,
    average DOUBLE,
    largest DOUBLE,
    online_share DOUBLE,
    countries BIGINT,
    merchants BIGINT,
    label BIGINT,                   -- 1 if any of the minute's payments was fraud
    PRIMARY KEY (window_end, card) NOT ENFORCED
);

INSERT INTO features
SELECT window_end, card, n, total, average, largest, online_share, countries, merchants, label
FROM card_minutes;

-- The model: a small network that gives the chance that a card was misused within a minute. All columns but the label,
-- the time and the ignored ones are its features, in this order. Its two workers are placed together or not at all.
CREATE MODEL fraud WITH (
    label = 'label',
    task = 'binary',
    ignore = 'card',                -- knowing the card by number would be learning by heart
    time_column = 'window_end',     -- remembered, so that the model is only judged on later minutes
    min_rows = '30000',             -- wait for this many rows before training
    hidden = '32,16',
    epochs = '5',
    batch = '256',
    learning_rate = '0.003',
    workers = '2',
    seed = '7'
) AS
SELECT window_end, card, n, total, average, largest, online_share, countries, merchants, label
FROM features;

-- Score what comes after. `predict` takes the model's name and its features in the order of the query above.
CREATE VIEW scored AS
SELECT
    window_end,
    card,
    window_start,
    n,
    countries,
    largest,
    label,
    predict('fraud', n, total, average, largest, online_share, countries, merchants) AS score
FROM card_minutes;

CREATE TABLE scores (
    window_end TIMESTAMP,
    card BIGINT,
    window_start TIMESTAMP,
    score DOUBLE,
    largest DOUBLE,                 -- to see what the amount alone would tell
    label BIGINT,                   -- kept beside the score, to see how good the scores are
    PRIMARY KEY (window_end, card) NOT ENFORCED
);

CREATE TABLE alerts (
    window_end TIMESTAMP,
    card BIGINT,
    score DOUBLE,
    n BIGINT,
    countries BIGINT,
    largest DOUBLE,
    PRIMARY KEY (window_end, card) NOT ENFORCED
);

INSERT INTO scores
SELECT window_end, card, window_start, score, largest, label
FROM scored;

INSERT INTO alerts
SELECT window_end, card, score, n, countries, largest
FROM scored
WHERE score > 0.5;
