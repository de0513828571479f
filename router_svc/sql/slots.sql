-- Statements of slots.

-- name: hold_slots
-- See router.hold_slots_v1.
SELECT model, held, most, free, elsewhere, claimants
FROM router.hold_slots_v1($1, $2, $3::text[], $4::integer[], $5::integer[], $6::integer[],
    $7::double precision[])

-- name: others
-- Read what other instances give as a sign of life. $1 the instance that asks.
SELECT session_id, max(beat) AS beat, min(keeps_seconds) AS keeps_seconds
FROM router.slots WHERE session_id <> $1 GROUP BY session_id

-- name: free_slots
-- Free what instances held that have been silent for long enough. $1 instances, $2 the last
-- beat seen of each, $3 for how many seconds no other was seen.
DELETE FROM router.slots s WHERE (s.model, s.session_id) IN (
    SELECT f.model, f.session_id FROM router.slots f
    JOIN unnest($1::uuid[], $2::bigint[], $3::double precision[]) AS d (session_id, beat, seconds)
        ON f.session_id = d.session_id
    WHERE f.beat <= d.beat AND f.keeps_seconds <= d.seconds
    FOR UPDATE OF f SKIP LOCKED
)
RETURNING s.model, s.held
