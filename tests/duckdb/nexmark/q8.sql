-- Monitor new users: persons who registered and opened an auction within one period of 10 seconds.
SELECT DISTINCT p.id, p.name, make_timestamp_ms(epoch_ms(p.dateTime) // 10000 * 10000) AS starttime
FROM person AS p
WHERE EXISTS (
    SELECT 1 FROM auction AS a WHERE a.seller = p.id AND epoch_ms(a.dateTime) // 10000 = epoch_ms(p.dateTime) // 10000
)
