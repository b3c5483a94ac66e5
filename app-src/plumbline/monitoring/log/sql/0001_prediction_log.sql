-- The log of predictions. Both large tables are partitioned by the id: a UUIDv7 begins with its time, so one UTC day
-- is one range of ids, and a lookup by id alone touches one partition. The consumer makes the partitions.

CREATE TABLE monitoring.predictions (
    id         uuid        NOT NULL,
    row        integer     NOT NULL,   -- 0 … rows - 1 within the answer
    rows       integer     NOT NULL,   -- of the whole answer: feedback on a bare id means the only row
    at         timestamptz NOT NULL,
    model      text        NOT NULL,
    version    text        NOT NULL,
    role       text        NOT NULL,
    arm        text        NOT NULL,
    subject    text        NOT NULL,
    request_id text        NOT NULL,
    features   jsonb       NOT NULL,
    output     jsonb       NOT NULL,
    label      text,
    score      double precision,
    ms         double precision NOT NULL,
    PRIMARY KEY (id, row)              -- a redelivered entry meets itself here and is left out
) PARTITION BY RANGE (id);

-- Every label that ever came, also for ids that are not (yet) known; the last one wins when it is read.
CREATE TABLE monitoring.feedback (
    id             uuid        NOT NULL,
    row            integer     NOT NULL,   -- -1: the feedback named the answer, not a row
    entry_ms       bigint      NOT NULL,   -- the stream entry: tells a repeated label from a redelivered one
    entry_sequence bigint      NOT NULL,
    at             timestamptz NOT NULL,
    model          text        NOT NULL,
    truth          jsonb       NOT NULL,
    value          double precision,
    PRIMARY KEY (id, row, entry_ms, entry_sequence)
) PARTITION BY RANGE (id);

-- What could not be stored, byte for byte, with the reason.
CREATE TABLE monitoring.dead_letters (
    stream text        NOT NULL,
    entry  text        NOT NULL,
    at     timestamptz NOT NULL DEFAULT now(),
    reason text        NOT NULL,
    body   bytea       NOT NULL,
    PRIMARY KEY (stream, entry)
);
