-- Statements on all points of a collection.

-- name: dump
SELECT id, embedding, payload, updated_at, expires_at
FROM vector.points_{collection_id} AS points
WHERE {live}

-- name: fit
-- What holds for points that an upsert would let in, and anybody could read: nested no deeper
-- than 32 levels, and without a number beyond float64. {length} is that of the vector; the
-- numbers are our own.
length(id) BETWEEN 1 AND 256
    AND pg_column_size(payload) <= {payload_bytes}
    AND {length} > {least} AND {length} < {most}
    AND (payload @? 'strict $.**{{32}} ? (@.type() == "object" || @.type() == "array")') IS NOT TRUE
    AND (payload @? 'strict $.** ? (@.type() == "number"
        && (@ > 1.7976931348623157e308 || @ < -1.7976931348623157e308))') IS NOT TRUE
