-- Statements that find the points of one collection. {collection_id}, {operator} (of the
-- metric), {columns}, {settings}, {condition} (a compiled filter) and the numbers of
-- parameters are filled in from our own numbers and constants, never from what a caller
-- sent. {live} holds for points whose time has not come.

-- name: sizes
-- The number of points as far as it is counted, and what was measured of the index.
-- $1 most to count, $2 collection_id
SELECT
    (
        SELECT count(*)
        FROM (SELECT FROM vector.points_{collection_id} LIMIT $1) AS counted
    ) AS points,
    recalls.*
FROM (SELECT) AS one
LEFT JOIN vector.recalls ON recalls.collection_id = $2

-- name: estimate_points
-- The planner's own estimate, which follows the table's size without a scan of it.
EXPLAIN (FORMAT JSON) SELECT FROM vector.points_{collection_id}

-- name: count_matches
-- $1 most to count; the filter's parameters
SELECT count(*) FROM (
    SELECT FROM vector.points_{collection_id} AS points WHERE {condition} LIMIT $1
) AS matches

-- name: sample_matches
-- Of some points by chance, in whole pages: those that match, and all.
-- $1 percent of the pages; the filter's parameters
SELECT count(*) FILTER (WHERE {condition}) AS matches, count(*) AS points
FROM vector.points_{collection_id} AS points TABLESAMPLE SYSTEM ($1::real)

-- name: vectors
-- $1 ids
SELECT points.id, points.embedding
FROM vector.points_{collection_id} AS points
WHERE points.id = ANY ($1) AND {condition}

-- name: exact
-- "+ 0" is what no index can order by, so every point is compared. Of points that are equally
-- near the id decides, so that one page follows another.
-- $1 embedding, $2 points to find, $3 of these to leave out; the filter's parameters
SELECT points.id, {columns}, points.embedding {operator} $1 AS distance
FROM vector.points_{collection_id} AS points
WHERE {live} AND {condition}
ORDER BY (points.embedding {operator} $1) + 0, points.id
LIMIT $2::bigint - $3::bigint OFFSET $3::bigint

-- name: walk
-- The settings hold for this statement only: set_config(…, true) ends with the
-- transaction, which is the statement. They are read when the scan of the index begins,
-- and that is after them, since the scan waits for "knobs.ready". COALESCE hides what is
-- asked of points from other indexes, and from Postgres' guess of how few it leaves, which
-- would lead to a scan of the table. The walk goes on past its candidates where these are
-- refused or deleted. What it remembers may take four times work_mem, so that it ends at
-- hnsw.max_scan_tuples and not before.
-- $1 embedding, $2 points to find, $3 of these to leave out, $4 candidates to keep,
-- $5 points to look at; the filter's parameters
WITH knobs AS MATERIALIZED (SELECT concat({settings}) AS ready)
SELECT found.*
FROM knobs CROSS JOIN LATERAL (
    SELECT points.id, {columns}, points.embedding {operator} $1 AS distance
    FROM vector.points_{collection_id} AS points
    WHERE knobs.ready <> '' AND COALESCE({live} AND {condition}, false)
    ORDER BY points.embedding {operator} $1
    LIMIT $2::bigint
) AS found
ORDER BY distance
OFFSET $3::bigint

-- name: walks
-- As walk, of several vectors; rows carry the number of theirs, from 1 on.
-- $1 embeddings, $2 to $5 as walk, each for every vector
WITH knobs AS MATERIALIZED (SELECT concat({settings}) AS ready)
SELECT found.*, asked.number
FROM knobs
CROSS JOIN unnest($1::{loose}[]) WITH ORDINALITY AS asked(embedding, number)
CROSS JOIN LATERAL (
    SELECT points.id, {columns}, points.embedding {operator} asked.embedding AS distance
    FROM vector.points_{collection_id} AS points
    WHERE knobs.ready <> '' AND COALESCE({live} AND {condition}, false)
    ORDER BY points.embedding {operator} asked.embedding
    LIMIT $2::bigint - $3::bigint OFFSET $3::bigint
) AS found
ORDER BY asked.number, found.distance

-- name: walk_and_rank
-- As walk, in an index of shortened vectors, whose candidates are ranked by the whole ones.
-- $1 to $5 as walk, $6 points to rank; the filter's parameters
WITH knobs AS MATERIALIZED (SELECT concat({settings}) AS ready)
SELECT found.*
FROM knobs CROSS JOIN LATERAL (
    SELECT points.id, {columns}, points.embedding {operator} $1 AS distance
    FROM vector.points_{collection_id} AS points
    WHERE knobs.ready <> '' AND COALESCE({live} AND {condition}, false)
    ORDER BY {short} {short_operator} {short_query}
    LIMIT $6::bigint
) AS found
ORDER BY distance
LIMIT $2::bigint - $3::bigint OFFSET $3::bigint

-- name: settings_hnsw
-- $4 candidates to keep, $5 points to look at
set_config('hnsw.ef_search', $4::text, true),
set_config('hnsw.max_scan_tuples', $5::text, true),
set_config('hnsw.scan_mem_multiplier', '4', true),
set_config('hnsw.iterative_scan', 'strict_order', true)

-- name: settings_ivfflat
-- $4 lists to look into, $5 lists to look into before giving up
set_config('ivfflat.probes', $4::text, true),
set_config('ivfflat.max_probes', $5::text, true),
set_config('ivfflat.iterative_scan', 'relaxed_order', true)

-- name: words
-- The points that fit words best, by BM25 with its usual constants, k1 = 1.2 and b = 0.75.
-- Of each word the postings with the largest weight are read, so that frequent words,
-- which tell the least, cost no more than others. All numbers are float8: a literal with a
-- point is numeric, whose sums take ten times as long.
-- Parameters: language, words, postings to read of each word, points to find
fitting AS MATERIALIZED (
    SELECT asked.word, counts.points,
        2.2::float8 * ln(
            1 + (totals.points - counts.points + 0.5::float8) / (counts.points + 0.5::float8)
        ) AS most,
        0.9::float8 * totals.points / totals.occurrences AS per_word
    FROM vector.words_of({language}::regconfig, {words}) AS asked
    JOIN vector.word_counts_{collection_id} AS counts ON counts.word = asked.word
    JOIN vector.word_counts_{collection_id} AS totals ON totals.word = ''
    WHERE counts.points > 0
),
{bar}
fit AS (
    SELECT scored.id, scored.score
    FROM (
        SELECT posting.id, sum(posting.share) AS score
        FROM fitting CROSS JOIN LATERAL ({postings}) AS posting
        GROUP BY posting.id
        {having}
    ) AS scored
    {restriction}
    ORDER BY scored.score DESC, scored.id
    LIMIT {depth}::bigint
)

-- name: words_postings
-- What the first postings of a word add to the scores of their points.
SELECT words.id,
    fitting.most * words.occurrences
    / (words.occurrences + (0.3::float8 + fitting.per_word * words.length)) AS share
FROM vector.words_{collection_id} AS words
WHERE words.word = fitting.word
ORDER BY words.weight DESC, words.id
LIMIT {most}::bigint

-- name: words_bar
-- Points whose time has come take nobody's place: those that were not removed yet are few.
-- And a score that as many points reach as are to be found: what the rarest word that so
-- many have adds at least to the first of them, since no other word takes any away. Points
-- below it need not be sorted.
gone AS MATERIALIZED (
    SELECT id FROM vector.points_{collection_id}
    WHERE expires_at < 'infinity' AND expires_at <= now()
),
bar AS (
    SELECT CASE WHEN count(*) = {depth}::bigint THEN min(posting.share) ELSE 0 END AS score
    FROM (
        SELECT * FROM fitting
        WHERE points >= {depth}::bigint AND NOT EXISTS (SELECT FROM gone)
        ORDER BY most DESC LIMIT 1
    ) AS fitting
    CROSS JOIN LATERAL ({postings}) AS posting
),

-- name: words_restriction
-- Only points that fulfil the filter.
JOIN vector.points_{collection_id} AS points ON points.id = scored.id
WHERE {live} AND {condition}

-- name: words_having
HAVING sum(posting.share) >= (SELECT score FROM bar)
    AND posting.id NOT IN (SELECT id FROM gone)

-- name: words_only
-- $1 points to find, $2 of these to leave out, $3 language, $4 words, $5 postings, $6 depth;
-- the filter's parameters
WITH {words}
SELECT points.id, {columns}, fit.score
FROM fit JOIN vector.points_{collection_id} AS points ON points.id = fit.id
WHERE {live}
ORDER BY fit.score DESC, fit.id
LIMIT $1::bigint - $2::bigint OFFSET $2::bigint

-- name: hybrid
-- Both rankings, joined by reciprocal rank fusion (Cormack, Clarke and Büttcher, 2009).
-- Within it stands a search by nearness, without payloads; its parameters come first.
-- A point of one ranking alone is not among the best if there are as many before it there.
WITH near AS (
    SELECT found.id, row_number() OVER (ORDER BY found.distance) AS place
    FROM ({near}) AS found
    {threshold}
),
{words},
fused AS (
    SELECT id,
        coalesce({vector_weight}::float8 / ({k}::float8 + near.place), 0)
        + coalesce({weight}::float8 / ({k}::float8 + fit.place), 0) AS score
    FROM near FULL JOIN (
        SELECT id, row_number() OVER (ORDER BY score DESC, id) AS place FROM fit
    ) AS fit USING (id)
    WHERE near.place <= {take}::bigint OR fit.place <= {take}::bigint OR near.id = fit.id
    ORDER BY score DESC, id
    LIMIT {take}::bigint
)
SELECT points.id, {columns}, fused.score
FROM fused JOIN vector.points_{collection_id} AS points ON points.id = fused.id
WHERE {live}
ORDER BY fused.score DESC, fused.id
OFFSET {offset}::bigint
