-- Statements of retention. What they do is in functions (migrations/0008).

-- name: try_alone
-- Take the lock that lets one executor at a time work; false if another one has it.
SELECT pg_try_advisory_lock(hashtextextended('stepwire.retention', 0))

-- name: leave
-- Give that lock back.
SELECT pg_advisory_unlock(hashtextextended('stepwire.retention', 0))

-- name: be_brief
-- Give way, in this transaction. $1 longest wait for a lock, $2 longest statement.
SELECT set_config('lock_timeout', $1, true), set_config('statement_timeout', $2, true)

-- name: partitions
-- See executor.partitions_v1.
SELECT name, lower, upper FROM executor.partitions_v1()

-- name: add_partition
-- See executor.add_partition_v1.
SELECT executor.add_partition_v1($1, $2, $3)

-- name: kept
-- See executor.kept_v1.
SELECT kept, marked FROM executor.kept_v1($1, $2, $3, $4)

-- name: drop_partition
-- See executor.drop_partition_v1.
SELECT executor.drop_partition_v1($1, $2, $3, $4)

-- name: purge
-- See executor.purge_v1.
SELECT executor.purge_v1($1, $2, $3, $4)

-- name: drop_graphs
-- See executor.drop_graphs_v1.
SELECT executor.drop_graphs_v1($1, $2, $3)

-- name: forget
-- See executor.forget_v1.
SELECT executor.forget_v1($1, $2, $3)
