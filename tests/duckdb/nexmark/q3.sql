-- Local item suggestion: who sells in Oregon, Idaho or California in category 10, and under which auction?
SELECT name, city, state, auction.id AS id
FROM person, auction
WHERE seller = person.id AND category = 10 AND (state = 'OR' OR state = 'ID' OR state = 'CA')
