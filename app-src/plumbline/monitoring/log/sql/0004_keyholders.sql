-- Whose API key asked, and whose said what came true: a hash of the name in the file of keys; empty without keys.
ALTER TABLE monitoring.predictions ADD COLUMN keyholder text NOT NULL DEFAULT '';
ALTER TABLE monitoring.feedback ADD COLUMN keyholder text NOT NULL DEFAULT '';
