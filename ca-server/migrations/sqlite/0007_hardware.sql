-- Hardware of a device that was replaced: it enrolls nothing any more, and stays the device's for ever.
ALTER TABLE identities ADD COLUMN retired_at INTEGER;
