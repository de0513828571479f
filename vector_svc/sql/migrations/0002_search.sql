-- What searches need: what was measured of indexes, and by which searches, and the words of
-- texts.

CREATE TABLE vector.recalls (
    collection_id bigint PRIMARY KEY REFERENCES vector.collections ON DELETE CASCADE,
    tenant_id text COLLATE "C" NOT NULL,
    target real NOT NULL,
    -- What the index was made with; null if there was none to measure. Of another index
    -- than this the figures say nothing.
    index_built jsonb,
    -- [effort, recall, milliseconds, nearest], by rising nearest and effort.
    figures jsonb NOT NULL,
    unreachable real NOT NULL,
    samples integer NOT NULL,
    -- What was sampled.
    queries text NOT NULL CHECK (queries IN ('points', 'searches')),
    measured_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE vector.recalls ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON vector.recalls USING (vector.role_of(tenant_id) = current_user);
GRANT SELECT, INSERT, UPDATE ON vector.recalls TO stepwire_vector;

-- Some of what was searched for, the newest of each collection; never more than its
-- query_samples when a transaction ends. The vectors as the collection's type writes them.
CREATE TABLE vector.query_samples (
    collection_id bigint NOT NULL REFERENCES vector.collections ON DELETE CASCADE,
    sample_id bigint GENERATED ALWAYS AS IDENTITY,
    tenant_id text COLLATE "C" NOT NULL,
    embedding bytea STORAGE EXTERNAL NOT NULL,
    wanted integer NOT NULL,
    PRIMARY KEY (collection_id, sample_id)
);
ALTER TABLE vector.query_samples ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON vector.query_samples USING (vector.role_of(tenant_id) = current_user);
GRANT SELECT, INSERT, DELETE ON vector.query_samples TO stepwire_vector;

-- The weight that BM25 gives a word of a text (k1 = 1.2, b = 0.75), with 100 words as the
-- middling length of texts: it tells which points to read first, not what they score.
CREATE FUNCTION vector.word_weight(occurrences bigint, length bigint) RETURNS real
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (occurrences / (occurrences + 1.2 * (0.25 + 0.75 * length / 100.0)))::real;

-- Longest word that is indexed, as UTF-8: a row of an index holds 2,704 bytes, of which an id
-- of a point may take 1,024.
CREATE FUNCTION vector.max_word_bytes() RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 1024;

-- The words of a text as they are indexed and asked for, and how often each occurs. Those that
-- are too long are left out of both.
CREATE FUNCTION vector.words_of(language regconfig, text text)
RETURNS TABLE (word text, occurrences integer) LANGUAGE sql STABLE PARALLEL SAFE ROWS 10
BEGIN ATOMIC
    SELECT lexeme, cardinality(positions) FROM unnest(to_tsvector(language, text))
    WHERE octet_length(lexeme) <= vector.max_word_bytes();
END;

-- Keeps the words of a collection's texts in step with its points: arguments are the
-- collection's number, the field of the payload, and the language. Writers take turns from
-- here to the end of their transactions, since the counts of frequent words are common.
CREATE FUNCTION vector.index_words() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changes text;
BEGIN
    IF TG_OP = 'INSERT' THEN
        changes := 'SELECT id, vector.text_of(payload -> $1) AS text, 1 AS sign FROM new_points';
    ELSIF TG_OP = 'DELETE' THEN
        changes := 'SELECT id, vector.text_of(payload -> $1) AS text, -1 AS sign FROM old_points';
    ELSE
        changes := 'SELECT id, side.text, side.sign
            FROM old_points JOIN new_points USING (id) CROSS JOIN LATERAL (VALUES
                (vector.text_of(old_points.payload -> $1), -1),
                (vector.text_of(new_points.payload -> $1), 1)
            ) AS side(text, sign)
            WHERE vector.text_of(old_points.payload -> $1)
                IS DISTINCT FROM vector.text_of(new_points.payload -> $1)';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('vector.words', TG_ARGV[0]::bigint));
    EXECUTE format(
        'WITH changes AS MATERIALIZED (%1$s),
        words AS MATERIALIZED (
            SELECT changes.id, changes.sign, found.word, found.occurrences,
                sum(found.occurrences) OVER (PARTITION BY changes.id, changes.sign) AS length
            FROM changes CROSS JOIN LATERAL vector.words_of($2::regconfig, changes.text)
                AS found
        ),
        different AS MATERIALIZED (
            SELECT word, vector.word_weight(occurrences, length) AS weight, id,
                occurrences, length, sum(sign) AS sign
            FROM words GROUP BY word, id, occurrences, length HAVING sum(sign) <> 0
        ),
        removed AS (
            DELETE FROM vector.words_%2$s AS old USING different
            WHERE different.sign < 0 AND old.word = different.word
                AND old.weight = different.weight AND old.id = different.id
        ),
        added AS (
            INSERT INTO vector.words_%2$s (word, weight, id, occurrences, length)
            SELECT word, weight, id, occurrences, length FROM different WHERE sign > 0
            ORDER BY word, weight DESC
        )
        INSERT INTO vector.word_counts_%2$s AS counts (word, points, occurrences)
        SELECT word, sum(sign), 0 FROM different GROUP BY word HAVING sum(sign) <> 0
        UNION ALL
        SELECT '''', sum(sign), sum(sign * length)
        FROM (SELECT DISTINCT id, sign, length FROM words) AS texts HAVING count(*) > 0
        ON CONFLICT (word) DO UPDATE
        SET points = counts.points + excluded.points,
            occurrences = counts.occurrences + excluded.occurrences',
        changes, TG_ARGV[0]
    ) USING TG_ARGV[1], TG_ARGV[2];
    RETURN NULL;
END
$$;
