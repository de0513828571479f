-- Statements of the relay.

-- name: take_notices
-- See executor.take_notices_v1.
SELECT * FROM executor.take_notices_v1($1, $2)

-- name: finish_notices
-- See executor.finish_notices_v1.
SELECT executor.finish_notices_v1($1, $2, $3, $4)

-- name: until_notice_due
-- After what time a notice is due; null when there is none. $1 kinds.
SELECT min(due_at) - now() FROM executor.notices WHERE kind = ANY ($1::text[])
