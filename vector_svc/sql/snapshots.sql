-- Statements on all points of a collection.

-- name: dump
SELECT id, embedding, payload, updated_at, expires_at
FROM vector.points_{collection_id} AS points
WHERE {live}

-- name: find_unfit
-- A point that no upsert would have let in, or nobody could read: nested deeper than 32 levels,
-- or with a number beyond float64. {length} is that of its vector.
-- $1 most bytes of a payload, $2 length that is too small, $3 that is too large
SELECT id FROM vector.points_{collection_id}
WHERE length(id) NOT BETWEEN 1 AND 256
    OR pg_column_size(payload) > $1::integer * 2
    OR {length} <= $2::float8 OR {length} >= $3::float8
    OR payload @? 'strict $.**{{32}} ? (@.type() == "object" || @.type() == "array")'
    OR payload @? 'strict $.** ? (@.type() == "number"
        && (@ > 1.7976931348623157e308 || @ < -1.7976931348623157e308))'
LIMIT 1
