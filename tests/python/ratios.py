"""Prints what Criterion has measured as ratios to its limit, from the folder of its results."""

import json
import pathlib
import sys

# What is measured, and what it costs at least.
RATIOS = [
    ("issuance/csr_to_certificate", "issuance/verify_plus_sign"),
    ("crl/encode_and_sign/10000", "crl/copy_and_hash/10000"),
    ("crl/encode_and_sign/100000", "crl/copy_and_hash/100000"),
    ("attestation/factory", "attestation/factory_verifications"),
]

# What is measured, and what it may take, in microseconds. Absent where there is no TPM.
LIMITS = [(f"attestation/tpm_{kind}", 600.0) for kind in ["p256", "p256_certified", "p384", "p384_certified"]]


def microseconds(results: pathlib.Path, name: str) -> float:
    estimates = json.loads((results / name / "new" / "estimates.json").read_text())
    return estimates["median"]["point_estimate"] / 1000


results = pathlib.Path(sys.argv[1])
for name, limit in RATIOS:
    measured, least = microseconds(results, name), microseconds(results, limit)
    print(f"{name:<30} {measured:10.1f} µs   {limit:<28} {least:10.1f} µs   ratio {measured / least:.2f}")
for name, limit in LIMITS:
    if (results / name).exists():
        measured = microseconds(results, name)
        print(f"{name:<30} {measured:10.1f} µs   {'limit':<28} {limit:10.1f} µs   ratio {measured / limit:.2f}")
