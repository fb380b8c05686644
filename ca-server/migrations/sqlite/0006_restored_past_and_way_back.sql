-- What a restored past closes, and until when a revoked device may come back.

-- The fleets that have refused devices that nobody registered since it was noticed: their names, with spaces between.
ALTER TABLE restorations ADD COLUMN closed_fleets TEXT NOT NULL DEFAULT '';

-- Until when a revoked device may enroll once more. What was allowed without an end is allowed no more.
ALTER TABLE holders ADD COLUMN reenroll_until INTEGER;
ALTER TABLE holders DROP COLUMN reenroll_allowed;
