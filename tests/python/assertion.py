"""An assertion for `registered-key`, made by PyJWT: says `ready`, reads a line with the binding, and writes the assertion."""

import argparse
import time
import uuid

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519


def algorithm(key):
    """The one that goes with the key."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "EdDSA"
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return {"secp256r1": "ES256", "secp384r1": "ES384"}[key.curve.name]
    return "RS256"


def main():
    parser = argparse.ArgumentParser()
    for name in ("--key", "--device-id", "--trust-domain"):
        parser.add_argument(name, required=True)
    options = parser.parse_args()
    with open(options.key, "rb") as file:
        key = serialization.load_pem_private_key(file.read(), None)
    print("ready", flush=True)
    binding = input()
    now = int(time.time())
    claims = {
        "iss": options.device_id,
        "sub": options.device_id,
        "aud": f"spiffe://{options.trust_domain}",
        "iat": now,
        "exp": now + 60,
        "jti": str(uuid.uuid4()),
        "binding": binding,
    }
    print(jwt.encode(claims, key, algorithm(key), headers={"typ": "fleetca-enroll+jwt"}))


main()
