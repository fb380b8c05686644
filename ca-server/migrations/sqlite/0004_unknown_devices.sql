-- Devices that nobody registered, and that wait for an operator's approval.

-- Never used: it tied a device that waits to a name, which must be free until somebody has approved it.
DROP TABLE approvals;

CREATE TABLE newcomers (
    -- What it has proven.
    kind TEXT NOT NULL CHECK (kind IN ('ek', 'idevid')),
    identity TEXT NOT NULL,
    -- Which fleet takes it, and the name that it is to have there: several may wait for one.
    fleet INTEGER NOT NULL REFERENCES fleets (key),
    id TEXT NOT NULL,
    method TEXT NOT NULL,
    tier TEXT NOT NULL,
    -- The key that it wants certified, and with how many it has come.
    key_hash BLOB NOT NULL UNIQUE CHECK (length(key_hash) = 32),
    keys INTEGER NOT NULL CHECK (keys > 0),
    -- An approval lets that identity with that key in under that name, once, and nothing else.
    state TEXT NOT NULL CHECK (state IN ('asked', 'approved', 'rejected')),
    asked_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (kind, identity)
) STRICT, WITHOUT ROWID;

CREATE INDEX newcomers_by_fleet ON newcomers (fleet, state);
CREATE INDEX newcomers_by_id ON newcomers (id, kind, identity);
CREATE INDEX newcomers_by_expiry ON newcomers (expires_at);
