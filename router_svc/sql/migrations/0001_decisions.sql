-- Decisions, what was reported of their answers, and what was learnt from it.

-- What was decided lately, so that a report finds what the request looked like. Rows of
-- some days ago are deleted; their ids grow with time.
CREATE TABLE router.decisions (
    decision_id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    -- The model decided on, and the one that answered after all, where that is known.
    model text NOT NULL,
    answered_by text,
    -- Probability with which it was drawn.
    propensity real NOT NULL CHECK (propensity > 0 AND propensity <= 1),
    predictor_version bigint NOT NULL,
    catalogue_version text NOT NULL,
    -- The models that might have answered, in the order of trying: an array of [name,
    -- predicted quality, expected cost in millionths of a US dollar].
    candidates json NOT NULL,
    -- What the request looked like: little-endian float32 of a version of the features,
    -- and little-endian float16 of its meaning, NULL where that was not asked for.
    features_version integer NOT NULL,
    features bytea NOT NULL,
    meaning bytea
);

-- What was reported: how good the answer of one model was, with all that is learnt from.
CREATE TABLE router.outcomes (
    decision_id uuid NOT NULL,
    model text NOT NULL,
    tenant_id text NOT NULL,
    score real NOT NULL CHECK (score >= 0 AND score <= 1),
    -- Whether the score is of an answer that was used, or follows from another having
    -- been used instead.
    inferred boolean NOT NULL,
    -- Probability with which the model was decided on; NULL when it was not.
    propensity real,
    features_version integer NOT NULL,
    features bytea NOT NULL,
    meaning bytea,
    reported_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (decision_id, model)
);
CREATE INDEX outcomes_recent ON router.outcomes (reported_at DESC);

CREATE TYPE router.predictor_state AS ENUM ('REFUSED', 'ACTIVE', 'RETIRED');

CREATE TABLE router.predictors (
    version bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    state router.predictor_state NOT NULL,
    outcomes integer NOT NULL,
    held_out integer NOT NULL,
    log_loss double precision NOT NULL,
    log_loss_before double precision NOT NULL,
    calibration_error double precision NOT NULL,
    models text[] NOT NULL,
    explanation text NOT NULL,
    -- NULL for a version that was refused and is not kept.
    parameters bytea,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX predictors_active ON router.predictors ((true)) WHERE state = 'ACTIVE';
