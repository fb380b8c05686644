-- At which gateways a revocation is in force.

-- The last change that a CRL holds; unknown for those of earlier versions, and for those that were taken back.
ALTER TABLE published_crls ADD COLUMN watermark INTEGER;

CREATE INDEX published_by_watermark ON published_crls (issuer, watermark);

-- What was said before there was a word for what a gateway has loaded. Each says it again when it connects.
DELETE FROM acknowledgements;
