-- What leaves a CRL is looked up by when it expired, so that a publication reads what changes and not all that ever was.
CREATE INDEX changes_by_expiry ON changes (issuer, not_after, serial);
