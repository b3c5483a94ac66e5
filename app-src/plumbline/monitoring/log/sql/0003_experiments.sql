-- The newest verdict of each experiment: the consumers show it to Prometheus, which a canary's analysis asks.
CREATE TABLE monitoring.experiment_verdicts (
    model     text        NOT NULL,
    treatment text        NOT NULL,   -- the version that is judged
    at        timestamptz NOT NULL,
    result    jsonb       NOT NULL,   -- as `plumbline monitor experiment --json` says it
    PRIMARY KEY (model, treatment)
);
