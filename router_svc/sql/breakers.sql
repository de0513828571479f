-- name: put_breaker
-- Writes what became of one breaker, and returns the row's new version; no row when somebody
-- has opened it, and who writes has not heard of that.
-- $1 name, $2 is_open, $3 seconds until probes or NULL, $4 cause, $5 message, $6 status,
-- $7 openings, $8 forced, $9 whether it is done by hand
INSERT INTO router.breakers AS breakers
    (name, version, is_open, open_until, cause, message, status, openings, forced)
VALUES (
    $1, nextval('router.breaker_versions'), $2,
    now() + make_interval(secs => $3), $4, $5, $6, $7, $8
)
ON CONFLICT (name) DO UPDATE SET
    -- Taken behind the row's lock: the last to write has the highest.
    version = nextval('router.breaker_versions'),
    is_open = excluded.is_open,
    open_until = excluded.open_until,
    cause = excluded.cause,
    message = excluded.message,
    status = excluded.status,
    openings = excluded.openings,
    forced = excluded.forced,
    changed_at = now()
WHERE $9 OR NOT (breakers.is_open AND breakers.forced)
    OR coalesce(breakers.open_until <= now(), false)
RETURNING version

-- name: read_breakers
-- Returns all breakers that are open, or were closed lately. There are few: all of them
-- are read each time, since versions of statements that overlap may appear out of order.
SELECT
    name, version, is_open, extract(epoch FROM open_until - now())::float8 AS seconds_left,
    cause, message, status, openings, forced
FROM router.breakers

-- name: forget_breakers
-- Removes the rows of breakers that were closed so long ago that every instance knows.
-- $1 seconds
DELETE FROM router.breakers
WHERE NOT is_open AND changed_at < now() - make_interval(secs => $1)
