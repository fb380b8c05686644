"""The conformance vectors, tests/fixtures/transcript.json: `vectors.py check FILE` holds this implementation to them,
`vectors.py make FILE` writes them anew (the ECDSA signatures differ each time, and the CSRs with them)."""

import hashlib
import json
import pathlib
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

import wire

SIGNATURE = ec.ECDSA(hashes.SHA256())


def fixed(label):
    """32 bytes that are the same every time."""
    return hashlib.sha256(f"Fleet CA conformance vector: {label}".encode()).digest()


def make():
    """All vectors."""
    messages, _ = wire.compile_protos()
    wire_messages = messages["enrollment"]
    seed = fixed("join token")
    token = wire.JoinToken(wire.token_text(seed))
    subject = ec.derive_private_key(int.from_bytes(fixed("subject key"), "big"), ec.SECP256R1())
    spki = subject.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    pkcs8 = subject.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(subject, hashes.SHA256())

    def enrollment(name, kind, identity):
        start = wire_messages.Start(
            trust_domain="fleet.test",
            kind=kind,
            id=identity,
            csr=csr.public_bytes(serialization.Encoding.DER),
            token=wire_messages.TokenEvidence(token_id=token.id),
        ).SerializeToString(deterministic=True)
        nonce = fixed(f"nonce: {name}")
        challenge = wire_messages.Challenge(nonce=nonce).SerializeToString(deterministic=True)
        evidence = wire.enrollment_transcript("token", "evidence", start, challenge)
        subject_bytes = wire.enrollment_transcript("token", "subject", start, challenge)
        return {
            "name": name,
            "method": "token",
            "trust_domain": "fleet.test",
            "kind": wire_messages.Kind.Name(kind),
            "id": identity,
            "nonce": nonce.hex(),
            "start": start.hex(),
            "challenge": challenge.hex(),
            "evidence_transcript": evidence.hex(),
            "evidence_signature": token.key.sign(evidence).hex(),
            "subject_transcript": subject_bytes.hex(),
            "subject_signature": subject.sign(subject_bytes, SIGNATURE).hex(),
        }

    bundle = wire_messages.TrustBundle(trust_domain="fleet.test", sequence=7).SerializeToString(deterministic=True)
    head = fixed("audit head")
    return {
        "join_token": {
            "text": wire.token_text(seed),
            "id": token.id,
            "seed": seed.hex(),
            "public_key": token.key.public_key().public_bytes_raw().hex(),
        },
        "subject_key": {"pkcs8": pkcs8.hex(), "spki": spki.hex()},
        "enrollments": [
            enrollment("a device", wire_messages.KIND_DEVICE, "pump-7"),
            enrollment("a device that leaves its ID to the token", wire_messages.KIND_DEVICE, ""),
            enrollment("an operator", wire_messages.KIND_OPERATOR, "ana"),
        ],
        "trust_bundle": {"bundle": bundle.hex(), "transcript": wire.trust_bundle_transcript(bundle).hex()},
        "audit_head": {
            "last_sequence": 4294967296,
            "at_millis": 1795312800123,
            "head": head.hex(),
            "transcript": wire.audit_head_transcript(4294967296, 1795312800123, head).hex(),
        },
        "crl_head": crl_head(),
    }


def crl_head():
    """A CRL's head."""
    issuer, number, this_update, sha256 = "0123456789abcdef", 1795312800123, 1795312800, fixed("crl head")
    return {
        "issuer": issuer,
        "number": number,
        "this_update_secs": this_update,
        "sha256": sha256.hex(),
        "transcript": wire.crl_head_transcript(issuer, number, this_update, sha256).hex(),
    }


def check(vectors):
    """Raises where this implementation and the vectors differ."""
    messages, _ = wire.compile_protos()
    token = wire.JoinToken(vectors["join_token"]["text"])
    assert token.id == vectors["join_token"]["id"]
    assert wire.token_text(bytes.fromhex(vectors["join_token"]["seed"])) == vectors["join_token"]["text"]
    assert token.key.public_key().public_bytes_raw().hex() == vectors["join_token"]["public_key"]
    subject = serialization.load_der_public_key(bytes.fromhex(vectors["subject_key"]["spki"]))
    for vector in vectors["enrollments"]:
        start, challenge = bytes.fromhex(vector["start"]), bytes.fromhex(vector["challenge"])
        parsed = messages["enrollment"].Start.FromString(start)
        assert parsed.WhichOneof("evidence") == vector["method"]
        assert parsed.token.token_id == token.id
        assert (parsed.trust_domain, parsed.id) == (vector["trust_domain"], vector["id"])
        assert messages["enrollment"].Kind.Name(parsed.kind) == vector["kind"]
        assert messages["enrollment"].Challenge.FromString(challenge).nonce.hex() == vector["nonce"]
        evidence = wire.enrollment_transcript(vector["method"], "evidence", start, challenge)
        assert evidence.hex() == vector["evidence_transcript"]
        assert token.key.sign(evidence).hex() == vector["evidence_signature"]
        subject_bytes = wire.enrollment_transcript(vector["method"], "subject", start, challenge)
        assert subject_bytes.hex() == vector["subject_transcript"]
        subject.verify(bytes.fromhex(vector["subject_signature"]), subject_bytes, SIGNATURE)
        csr = x509.load_der_x509_csr(parsed.csr)
        assert csr.is_signature_valid and csr.public_key() == subject
    bundle = vectors["trust_bundle"]
    assert wire.trust_bundle_transcript(bytes.fromhex(bundle["bundle"])).hex() == bundle["transcript"]
    seal = vectors["audit_head"]
    head = bytes.fromhex(seal["head"])
    assert wire.audit_head_transcript(seal["last_sequence"], seal["at_millis"], head).hex() == seal["transcript"]
    assert crl_head() == vectors["crl_head"]


def main():
    """See the top of the file."""
    action, path = sys.argv[1], pathlib.Path(sys.argv[2])
    if action == "make":
        path.write_text(json.dumps(make(), indent=2) + "\n")
    elif action == "check":
        check(json.loads(path.read_text()))
        print("all vectors hold")
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
