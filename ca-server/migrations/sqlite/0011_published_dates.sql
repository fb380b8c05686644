-- Each publication forgets the CRLs that nobody takes any more: without this it went through all that it remembers.
CREATE INDEX published_crls_by_date ON published_crls (issuer, next_update);
