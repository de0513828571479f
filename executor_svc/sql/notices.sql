-- Statements of the relay.

-- name: be_patient
-- Let this transaction be idle for longer. $1 how long.
SELECT set_config('idle_in_transaction_session_timeout', $1, true)

-- name: take_notices
-- See executor.take_notices_v1.
SELECT * FROM executor.take_notices_v1($1, $2)

-- name: finish_notices
-- See executor.finish_notices_v1.
SELECT executor.finish_notices_v1($1, $2, $3, $4)

-- name: until_notice_due
-- After what time a notice is due; null when there is none. $1 kinds.
SELECT min(due_at) - now() FROM executor.notices WHERE kind = ANY ($1::text[])
