-- Tells an invalidation from every other one, those too that another database, or this one
-- before it was restored, has given the same number. Answers outside of the record say by
-- it what they have outlived.
ALTER TABLE router.invalidations ADD COLUMN mark uuid NOT NULL DEFAULT gen_random_uuid();

-- The first one, of nobody's answers: there is always a last mark.
INSERT INTO router.invalidations (tenant_id, kept_until) VALUES ('', 'epoch');
