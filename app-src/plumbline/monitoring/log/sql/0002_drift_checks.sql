-- What drift checks found, for whoever asks later; the consumers show the newest one of each model to Prometheus.
CREATE TABLE monitoring.drift_checks (
    model  text        NOT NULL,
    until  timestamptz NOT NULL,   -- end of the window that was compared
    result jsonb       NOT NULL,   -- drift.json
    PRIMARY KEY (model, until)
);
