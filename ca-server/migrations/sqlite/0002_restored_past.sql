-- What a restored past is noticed by, and what is done about it.

-- The CRLs that were given out, by number. A head that the CA has signed and that is not here comes out of a past that
-- this store has lost. Pruned once nobody takes the CRL any more.
CREATE TABLE published_crls (
    issuer INTEGER NOT NULL REFERENCES issuers (key),
    number INTEGER NOT NULL CHECK (number > 0),
    this_update INTEGER NOT NULL,
    next_update INTEGER NOT NULL,
    sha256 BLOB NOT NULL CHECK (length(sha256) = 32),
    -- Taken back after a restoration: what it holds is in force here, and so is what all before it held.
    taken_back INTEGER NOT NULL DEFAULT 0 CHECK (taken_back IN (0, 1)),
    PRIMARY KEY (issuer, number)
) STRICT, WITHOUT ROWID;

INSERT INTO published_crls (issuer, number, this_update, next_update, sha256)
    SELECT issuer, number, this_update, next_update, sha256 FROM crl_heads WHERE der IS NULL;

-- Times that the store has lost, each since somebody noticed. While one is not decided, nothing is issued or published.
CREATE TABLE restorations (
    key INTEGER PRIMARY KEY,
    noticed_at INTEGER NOT NULL,
    lost_from INTEGER NOT NULL,
    lost_until INTEGER NOT NULL,
    evidence TEXT NOT NULL,
    -- The decision: when, until when certificates of the lost time are taken in, and whether its revocations were given
    -- up for lost.
    resumed_at INTEGER,
    window_until INTEGER,
    loss_accepted INTEGER NOT NULL DEFAULT 0 CHECK (loss_accepted IN (0, 1)),
    CHECK (lost_from <= lost_until),
    CHECK ((resumed_at IS NULL) = (window_until IS NULL))
) STRICT;

CREATE UNIQUE INDEX one_restoration_is_undecided ON restorations ((resumed_at IS NULL)) WHERE resumed_at IS NULL;

-- Certificates that were revoked in a lost time and of which nothing else is known.
CREATE TABLE orphans (
    serial BLOB PRIMARY KEY CHECK (length(serial) = 16),
    issuer INTEGER NOT NULL REFERENCES issuers (key),
    revoked_at INTEGER NOT NULL,
    reason INTEGER NOT NULL CHECK (reason IN (0, 1, 2, 3, 4, 5, 6, 9))
) STRICT, WITHOUT ROWID;

-- Whose head was taken in out of which lost time: once each.
CREATE TABLE adoptions (
    restoration INTEGER NOT NULL REFERENCES restorations (key),
    holder INTEGER NOT NULL REFERENCES holders (key),
    serial BLOB NOT NULL CHECK (length(serial) = 16),
    PRIMARY KEY (restoration, holder)
) STRICT, WITHOUT ROWID;

-- The CRL that a gateway said it holds.
CREATE TABLE acknowledgements (
    holder INTEGER NOT NULL REFERENCES holders (key),
    issuer INTEGER NOT NULL REFERENCES issuers (key),
    number INTEGER NOT NULL CHECK (number > 0),
    at INTEGER NOT NULL,
    PRIMARY KEY (holder, issuer)
) STRICT, WITHOUT ROWID;
