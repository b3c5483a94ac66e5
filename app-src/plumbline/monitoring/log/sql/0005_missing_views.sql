-- The views that the online store had no values of, and the caller gave none of: a list of their names.
ALTER TABLE monitoring.predictions ADD COLUMN missing_views jsonb NOT NULL DEFAULT '[]';
