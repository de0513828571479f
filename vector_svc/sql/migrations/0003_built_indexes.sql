-- What a collection's vector index was made with. Searches go by that until the next index is
-- there, whatever the collection says of the next one meanwhile.

ALTER TABLE vector.collections ADD COLUMN index_built jsonb;
UPDATE vector.collections
SET index_built = jsonb_build_object(
    'kind', index_kind, 'm', hnsw_m, 'ef_construction', hnsw_ef_construction,
    'lists', greatest(ivf_lists, 10), 'quantization', quantization
)
WHERE index_ready AND index_kind <> 'none';
DROP INDEX vector.collections_without_index;
ALTER TABLE vector.collections DROP COLUMN index_ready;
CREATE INDEX collections_without_index ON vector.collections (collection_id)
    WHERE index_built IS NULL AND index_kind <> 'none';
