-- Several issuing CAs of devices.

ALTER TABLE issuers ADD COLUMN standing TEXT NOT NULL DEFAULT 'active'
    CHECK (standing IN ('active', 'retired', 'ended', 'revoked'));
-- The one that it takes over from.
ALTER TABLE issuers ADD COLUMN replaces INTEGER REFERENCES issuers (key);
-- thisUpdate of its first CRL: since then gateways can have it.
ALTER TABLE issuers ADD COLUMN published_at INTEGER;

UPDATE issuers SET published_at = created_at;

-- Which issuers have signed for which fleets, and when the last of these certificates expires: until then the fleet's
-- gateways need the issuer's CRL.
CREATE TABLE fleet_issuers (
    fleet INTEGER NOT NULL REFERENCES fleets (key),
    issuer INTEGER NOT NULL REFERENCES issuers (key),
    last_not_after INTEGER NOT NULL,
    PRIMARY KEY (fleet, issuer)
) STRICT, WITHOUT ROWID;

INSERT INTO fleet_issuers (fleet, issuer, last_not_after)
SELECT holders.fleet, certificates.issuer, max(certificates.not_after)
FROM certificates JOIN holders ON holders.key = certificates.holder
WHERE holders.fleet IS NOT NULL
GROUP BY holders.fleet, certificates.issuer;

-- How many live certificates an issuer has, and when its last one expires.
CREATE INDEX certificates_by_issuer ON certificates (issuer, not_after);
