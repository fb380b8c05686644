-- What devices prove, and what they were registered with.

-- What an enrollment proved. Certificates descend from it: what a renewal gives knows no more than what it came from.
CREATE TABLE attestations (
    key INTEGER PRIMARY KEY,
    method TEXT NOT NULL,
    tier TEXT NOT NULL,
    identity TEXT NOT NULL
) STRICT;

ALTER TABLE certificates ADD COLUMN attestation INTEGER REFERENCES attestations (key);

-- Identities that came with the hardware: SHA-256 of a TPM's endorsement key; an IDevID's issuer and serial number.
-- Each is one device's, for ever.
CREATE TABLE identities (
    kind TEXT NOT NULL CHECK (kind IN ('ek', 'idevid')),
    identity TEXT NOT NULL,
    holder INTEGER NOT NULL REFERENCES holders (key),
    PRIMARY KEY (kind, identity)
) STRICT, WITHOUT ROWID;

CREATE INDEX identities_by_holder ON identities (holder);

-- Keys that operators have registered for devices. A key is one device's, for ever.
CREATE TABLE registered_keys (
    -- RFC 7638, with SHA-256.
    thumbprint BLOB PRIMARY KEY CHECK (length(thumbprint) = 32),
    holder INTEGER NOT NULL REFERENCES holders (key),
    spki BLOB NOT NULL,
    active_from INTEGER NOT NULL,
    retires_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX registered_keys_by_holder ON registered_keys (holder);

-- Assertions that were used: none works twice. Forgotten once they have expired.
CREATE TABLE assertions (
    -- SHA-256 of the key's thumbprint and the `jti`.
    hash BLOB PRIMARY KEY CHECK (length(hash) = 32),
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX assertions_by_expiry ON assertions (expires_at);

-- Devices that wait for an operator's approval: the very identity and key that they came with. `approved_at` lets that
-- identity with that key in, and nothing else.
CREATE TABLE approvals (
    holder INTEGER PRIMARY KEY REFERENCES holders (key),
    method TEXT NOT NULL,
    tier TEXT NOT NULL,
    identity TEXT NOT NULL,
    key_hash BLOB NOT NULL CHECK (length(key_hash) = 32),
    asked_at INTEGER NOT NULL,
    approved_at INTEGER
) STRICT;

CREATE INDEX approvals_by_age ON approvals (asked_at);

-- A revoked device may enroll once more.
ALTER TABLE holders ADD COLUMN reenroll_allowed INTEGER NOT NULL DEFAULT 0 CHECK (reenroll_allowed IN (0, 1));
