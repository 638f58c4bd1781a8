-- Channel ids: known ones by name, others as the address says, and no row where it says none.
SELECT * FROM (
    SELECT auction, bidder, price, channel, CASE
        WHEN lower(channel) = 'apple' THEN '0'
        WHEN lower(channel) = 'google' THEN '1'
        WHEN lower(channel) = 'facebook' THEN '2'
        WHEN lower(channel) = 'baidu' THEN '3'
        WHEN contains(url, 'channel_id=') THEN split_part(split_part(url, 'channel_id=', 2), '&', 1)
    END AS channel_id
    FROM bid
)
WHERE channel_id IS NOT NULL
