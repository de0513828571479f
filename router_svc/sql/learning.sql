-- Statements of learning.

-- name: add_decisions
-- Remember decisions. $1 ids, $2 tenants, $3 models, $4 models that answered, $5 propensities,
-- $6 predictors' versions, $7 catalogues' versions, $8 candidates, $9 version of the
-- features, $10 features, $11 meanings.
INSERT INTO router.decisions (decision_id, tenant_id, model, answered_by, propensity,
    predictor_version, catalogue_version, candidates, features_version, features, meaning)
SELECT d.decision_id, d.tenant_id, d.model, d.answered_by, d.propensity, d.predictor_version,
    d.catalogue_version, d.candidates, $9, d.features, d.meaning
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::real[], $6::bigint[],
    $7::text[], $8::json[], $10::bytea[], $11::bytea[])
    AS d (decision_id, tenant_id, model, answered_by, propensity, predictor_version,
        catalogue_version, candidates, features, meaning)
ON CONFLICT DO NOTHING

-- name: note_answers
-- Note which models answered after all. $1 ids of decisions, $2 models.
UPDATE router.decisions d
SET answered_by = a.model
FROM unnest($1::uuid[], $2::text[]) AS a (decision_id, model)
WHERE d.decision_id = a.decision_id

-- name: correct_outcomes
-- Give what was reported of the model decided on to the one that answered: another instance may
-- have taken the report before that was noted. $1 ids of decisions.
UPDATE router.outcomes o
SET model = d.answered_by, propensity = NULL
FROM router.decisions d
WHERE d.decision_id = ANY ($1::uuid[]) AND o.decision_id = d.decision_id AND o.model = d.model
    AND d.answered_by <> d.model AND NOT EXISTS (SELECT FROM router.outcomes x
        WHERE x.decision_id = d.decision_id AND x.model = d.answered_by)

-- name: lock_decision
-- Read a decision and keep another report of it waiting. $1 tenant, $2 id.
SELECT model, coalesce(answered_by, model) AS answered_by, propensity, features_version,
    features, meaning
FROM router.decisions
WHERE tenant_id = $1 AND decision_id = $2
FOR UPDATE

-- name: forget_outcomes
-- Make place for a later report of the same decision. $1 id.
DELETE FROM router.outcomes WHERE decision_id = $1

-- name: add_outcome
-- Remember how good a model's answer was. $1 id of the decision, $2 model, $3 tenant,
-- $4 score, $5 whether it is inferred, $6 propensity, $7 version of the features,
-- $8 features, $9 meaning.
INSERT INTO router.outcomes (decision_id, model, tenant_id, score, inferred, propensity,
    features_version, features, meaning)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: recent_outcomes
-- Read the newest outcomes that can be learnt from, the newest first. $1 version of the
-- features, $2 most rows.
SELECT decision_id, model, score, features, meaning
FROM router.outcomes
WHERE features_version = $1 AND meaning IS NOT NULL
ORDER BY reported_at DESC
LIMIT $2

-- name: count_outcomes
-- Count the outcomes that were reported since the last version was trained.
SELECT count(*) FROM router.outcomes
WHERE reported_at > coalesce((SELECT max(created_at) FROM router.predictors), '-infinity')

-- name: purge_decisions
-- Delete some decisions from before an id. $1 id, $2 most rows.
DELETE FROM router.decisions WHERE decision_id IN (
    SELECT decision_id FROM router.decisions WHERE decision_id < $1
    ORDER BY decision_id LIMIT $2)

-- name: purge_outcomes
-- Delete some old outcomes. $1 age, $2 most rows.
DELETE FROM router.outcomes WHERE (decision_id, model) IN (
    SELECT decision_id, model FROM router.outcomes WHERE reported_at < now() - $1::interval
    LIMIT $2)

-- name: try_training
-- Become the one that trains, until the end of the transaction; false when another does.
SELECT pg_try_advisory_xact_lock(hashtext('router.predictors'))

-- name: await_training
-- Wait until nobody trains, and keep others from it until the end of the transaction.
SELECT pg_advisory_xact_lock(hashtext('router.predictors'))

-- name: retire_predictor
-- Take the predictor in use out of use.
UPDATE router.predictors SET state = 'RETIRED' WHERE state = 'ACTIVE'

-- name: add_predictor
-- Keep a version. $1 state, $2 outcomes, $3 held out, $4 log loss, $5 the same of what was in
-- use, $6 calibration error, $7 models, $8 explanation, $9 parameters.
INSERT INTO router.predictors (state, outcomes, held_out, log_loss, log_loss_before,
    calibration_error, models, explanation, parameters)
VALUES ($1::router.predictor_state, $2, $3, $4, $5, $6, $7, $8, $9)
RETURNING *

-- name: activate_predictor
-- Put a version to use; no row when there is none, or it was refused. $1 version.
UPDATE router.predictors SET state = 'ACTIVE'
WHERE version = $1 AND parameters IS NOT NULL
RETURNING *

-- name: list_predictors
-- List the newest versions, without their parameters, which are megabytes each. $1 most rows.
SELECT version, state, outcomes, held_out, log_loss, log_loss_before, calibration_error, models,
    explanation, NULL::bytea AS parameters, created_at
FROM router.predictors ORDER BY version DESC LIMIT $1

-- name: active_predictor
-- Read the version in use.
SELECT * FROM router.predictors WHERE state = 'ACTIVE'

-- name: active_version
-- Read the number of the version in use.
SELECT version FROM router.predictors WHERE state = 'ACTIVE'
