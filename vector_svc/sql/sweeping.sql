-- Statements that remove points whose time has come.

-- name: try_lock
-- One instance sweeps at a time; the lock goes with the connection.
SELECT pg_try_advisory_lock(hashtextextended('stepwire.vector.sweep', 0))

-- name: unlock
SELECT pg_advisory_unlock(hashtextextended('stepwire.vector.sweep', 0))

-- name: collection_ids
SELECT collection_id FROM vector.collections ORDER BY collection_id
