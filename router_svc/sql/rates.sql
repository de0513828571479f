-- Statements of rates.

-- name: take_rates
-- Take shares of rates, and put back what is not wanted. $1 names, $2 limits, $3 wanted,
-- $4 least, $5 seconds that are looked at, $6 names, $7 seconds and $8 units put back.
SELECT name, second, given, wait_seconds
FROM router.take_v1($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5, $6::text[],
    $7::bigint[], $8::bigint[])
