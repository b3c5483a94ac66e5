-- What the newest check of each canary found: the consumers show it to Prometheus, which the canary's analysis asks.
CREATE TABLE monitoring.canary_checks (
    model   text        NOT NULL,
    version text        NOT NULL,
    at      timestamptz NOT NULL,
    result  jsonb       NOT NULL,   -- as `plumbline monitor canary check --json` says it
    PRIMARY KEY (model, version)
);
