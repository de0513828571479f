-- The words of a collection's texts. {collection_id}, {role}, {field} and {language} are
-- filled in from our own numbers and from names that were checked.

-- name: create_text
-- Which points hold a word, how often, and of how many words they are; by the weight that
-- BM25 gives them in texts of middling length. And how many points hold a word; '' stands
-- for all points, and how many words they hold together.
CREATE TABLE vector.words_{collection_id} (
    word text COLLATE "C" NOT NULL,
    weight real NOT NULL,
    id text COLLATE "C" NOT NULL,
    occurrences integer NOT NULL,
    length integer NOT NULL
);
CREATE INDEX words_{collection_id}_by_weight ON vector.words_{collection_id}
    (word, weight DESC, id) INCLUDE (occurrences, length);
CREATE TABLE vector.word_counts_{collection_id} (
    word text COLLATE "C" PRIMARY KEY,
    points bigint NOT NULL,
    occurrences double precision NOT NULL
) WITH (fillfactor = 70);
GRANT SELECT, INSERT, UPDATE, DELETE
    ON vector.words_{collection_id}, vector.word_counts_{collection_id} TO {role};
CREATE TRIGGER words_inserted AFTER INSERT ON vector.points_{collection_id}
    REFERENCING NEW TABLE AS new_points
    FOR EACH STATEMENT EXECUTE FUNCTION
    vector.index_words('{collection_id}', '{field}', '{language}');
CREATE TRIGGER words_updated AFTER UPDATE ON vector.points_{collection_id}
    REFERENCING OLD TABLE AS old_points NEW TABLE AS new_points
    FOR EACH STATEMENT EXECUTE FUNCTION
    vector.index_words('{collection_id}', '{field}', '{language}');
CREATE TRIGGER words_deleted AFTER DELETE ON vector.points_{collection_id}
    REFERENCING OLD TABLE AS old_points
    FOR EACH STATEMENT EXECUTE FUNCTION
    vector.index_words('{collection_id}', '{field}', '{language}');

-- name: drop_text
DROP TABLE IF EXISTS vector.words_{collection_id}, vector.word_counts_{collection_id}
