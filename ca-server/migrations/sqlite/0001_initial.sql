-- The first schema of the embedded store.
--
-- Times are Unix milliseconds. Rows refer to each other by integer keys, which mean nothing outside. Serials stay what
-- they are: 16 octets that begin with the time, so that their index grows at its end. Tables are rowid tables but where
-- the primary key is all there is to find a row by.

-- What init fixed for ever: one row.
CREATE TABLE domain (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    trust_domain TEXT NOT NULL,
    public_url TEXT NOT NULL
) STRICT;

CREATE TABLE trust_bundles (
    sequence INTEGER PRIMARY KEY CHECK (sequence > 0),
    signed BLOB NOT NULL
) STRICT;

CREATE TABLE issuers (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE CHECK (length(id) = 16 AND id NOT GLOB '*[^0-9a-f]*'),
    role TEXT NOT NULL CHECK (role IN ('control-root', 'control', 'device-root', 'device')),
    certificate BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    -- The last number of this issuer's changes, so that the next one is taken in the change's own transaction.
    last_change INTEGER NOT NULL DEFAULT 0 CHECK (last_change >= 0)
) STRICT;

CREATE TABLE fleets (
    key INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    folded TEXT NOT NULL UNIQUE,
    policy TEXT NOT NULL CHECK (json_valid(policy)),
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE tokens (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE CHECK (length(id) = 16 AND id NOT GLOB '*[^0-9a-f]*'),
    public_key BLOB NOT NULL CHECK (length(public_key) = 32),
    kind TEXT NOT NULL CHECK (kind IN ('device', 'gateway', 'operator')),
    fleet INTEGER REFERENCES fleets (key),
    role TEXT CHECK (role IN ('viewer', 'revoker', 'admin')),
    subject_id TEXT,
    id_pattern TEXT,
    uses INTEGER NOT NULL CHECK (uses > 0),
    uses_left INTEGER NOT NULL CHECK (uses_left BETWEEN 0 AND uses),
    reenroll INTEGER NOT NULL CHECK (reenroll IN (0, 1)),
    expires_at INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('live', 'revoked', 'suspended')),
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL
) STRICT;

CREATE INDEX tokens_by_fleet ON tokens (fleet) WHERE fleet IS NOT NULL;
CREATE INDEX tokens_by_subject ON tokens (subject_id, kind) WHERE subject_id IS NOT NULL;

-- Devices, gateways, operators and the server.
CREATE TABLE holders (
    key INTEGER PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('device', 'gateway', 'operator', 'server')),
    id TEXT NOT NULL,
    folded TEXT NOT NULL,
    fleet INTEGER REFERENCES fleets (key),
    role TEXT CHECK (role IN ('viewer', 'revoker', 'admin')),
    status TEXT NOT NULL CHECK (status IN ('registered', 'pending', 'active', 'held', 'revoked', 'decommissioned')),
    status_reason TEXT NOT NULL DEFAULT '',
    handle TEXT NOT NULL UNIQUE,
    attested_method TEXT,
    attested_tier TEXT,
    attested_identity TEXT,
    -- Serials of the certificates that count.
    head BLOB CHECK (length(head) = 16),
    pending BLOB CHECK (length(pending) = 16),
    generation INTEGER NOT NULL DEFAULT 0,
    replacements INTEGER NOT NULL DEFAULT 0 CHECK (replacements BETWEEN 0 AND 255),
    came_by INTEGER REFERENCES tokens (key),
    created_at INTEGER NOT NULL,
    -- notAfter of the head, kept here to sort and filter by.
    expires_at INTEGER,
    last_seen_at INTEGER,
    -- Grows with every change of this row: what compare-and-swap compares.
    version INTEGER NOT NULL DEFAULT 1,
    CHECK ((attested_method IS NULL) = (attested_tier IS NULL)),
    CHECK ((attested_method IS NULL) = (attested_identity IS NULL)),
    CHECK ((kind = 'device') = (fleet IS NOT NULL)),
    CHECK ((kind = 'operator') = (role IS NOT NULL)),
    UNIQUE (kind, folded),
    UNIQUE (kind, id)
) STRICT;

CREATE INDEX holders_by_fleet ON holders (fleet, id) WHERE fleet IS NOT NULL;
CREATE INDEX holders_by_status ON holders (kind, status, id);
CREATE INDEX holders_by_expiry ON holders (kind, ifnull(expires_at, -1), id);
CREATE INDEX holders_by_age ON holders (kind, created_at, id);

CREATE TABLE certificates (
    key INTEGER PRIMARY KEY,
    serial BLOB NOT NULL UNIQUE CHECK (length(serial) = 16),
    holder INTEGER NOT NULL REFERENCES holders (key),
    issuer INTEGER NOT NULL REFERENCES issuers (key),
    key_hash BLOB NOT NULL CHECK (length(key_hash) = 32),
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    not_before INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    -- Whether it ever was the head of its holder's lineage.
    was_head INTEGER NOT NULL DEFAULT 0 CHECK (was_head IN (0, 1)),
    -- The serial of the certificate presented for it, which may be gone before it.
    presented BLOB CHECK (length(presented) = 16),
    token INTEGER REFERENCES tokens (key),
    revoked_at INTEGER,
    reason INTEGER CHECK (reason IN (0, 1, 2, 3, 4, 5, 6, 9)),
    -- The number of its last change among its issuer's.
    change INTEGER,
    der BLOB NOT NULL,
    CHECK ((revoked_at IS NULL) = (reason IS NULL))
) STRICT;

CREATE INDEX certificates_by_holder ON certificates (holder);
-- The first eight octets tell keys apart well enough, and keep an index that grows everywhere at once small.
CREATE INDEX certificates_by_key ON certificates (substr(key_hash, 1, 8));

-- Keys revoked for compromise.
CREATE TABLE banned_keys (
    key_hash BLOB PRIMARY KEY CHECK (length(key_hash) = 32),
    banned_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What happened to an issuer's certificates: revoked, or (without a date) released.
CREATE TABLE changes (
    issuer INTEGER NOT NULL REFERENCES issuers (key),
    sequence INTEGER NOT NULL CHECK (sequence > 0),
    serial BLOB NOT NULL CHECK (length(serial) = 16),
    not_after INTEGER NOT NULL,
    revoked_at INTEGER,
    reason INTEGER CHECK (reason IN (0, 1, 2, 3, 4, 5, 6, 9)),
    PRIMARY KEY (issuer, sequence),
    CHECK ((revoked_at IS NULL) = (reason IS NULL))
) STRICT, WITHOUT ROWID;

-- The CRL published last, an issuer.
CREATE TABLE crl_heads (
    issuer INTEGER PRIMARY KEY REFERENCES issuers (key),
    number INTEGER NOT NULL CHECK (number > 0),
    this_update INTEGER NOT NULL,
    next_update INTEGER NOT NULL,
    watermark INTEGER NOT NULL,
    horizon INTEGER NOT NULL,
    sha256 BLOB NOT NULL CHECK (length(sha256) = 32),
    signature BLOB NOT NULL,
    der BLOB
) STRICT;

CREATE TABLE audit_records (
    sequence INTEGER PRIMARY KEY CHECK (sequence > 0),
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    serial TEXT NOT NULL,
    outcome TEXT NOT NULL,
    detail TEXT NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;

CREATE INDEX audit_records_by_subject ON audit_records (subject);
CREATE INDEX audit_records_by_action ON audit_records (action);

CREATE TABLE audit_seals (
    last_sequence INTEGER PRIMARY KEY,
    first_sequence INTEGER NOT NULL,
    head BLOB NOT NULL CHECK (length(head) = 32),
    at INTEGER NOT NULL,
    signature BLOB NOT NULL,
    issuer TEXT NOT NULL,
    CHECK (first_sequence BETWEEN 1 AND last_sequence)
) STRICT;

-- Outside the chain: counted an hour, and bounded.
CREATE TABLE security_events (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    hour INTEGER NOT NULL,
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    count INTEGER NOT NULL CHECK (count > 0),
    detail TEXT NOT NULL,
    UNIQUE (kind, subject, hour)
) STRICT;
