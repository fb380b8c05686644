"""The protocol of Fleet CA as a stranger would write it, from the .proto files and docs alone.

Shared by enroll.py (a client) and vectors.py (the conformance vectors). Nothing here comes from the project's own code.
"""

import base64
import hashlib
import importlib
import pathlib
import sys
import tempfile

import grpc_tools.protoc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PROTOS = pathlib.Path(__file__).parents[2] / "proto"


def compile_protos():
    """Compiles the .proto files, and gives the modules of their messages and of their services by file name."""
    out = tempfile.TemporaryDirectory()
    files = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.glob("fleetca/v1/*.proto"))
    well_known = pathlib.Path(grpc_tools.protoc.__file__).parent / "_proto"
    arguments = ["protoc", f"-I{PROTOS}", f"-I{well_known}", f"--python_out={out.name}", f"--grpc_python_out={out.name}"]
    if grpc_tools.protoc.main(arguments + files) != 0:
        sys.exit("the .proto files do not compile")
    sys.path.insert(0, out.name)
    messages, services = {}, {}
    for file in files:
        module = file.removesuffix(".proto").replace("/", ".")
        name = module.rsplit(".", 1)[1]
        messages[name] = importlib.import_module(module + "_pb2")
        services[name] = importlib.import_module(module + "_pb2_grpc")
    # The modules are loaded: their source may go.
    out.cleanup()
    return messages, services


class JoinToken:
    """fleetca-join-<id>.<base64url of the 32-byte Ed25519 seed>.<checksum>"""

    PREFIX = "fleetca-join-"

    def __init__(self, text):
        body, checksum = text.strip().rsplit(".", 1)
        if hashlib.sha256(body.encode()).hexdigest()[:8] != checksum:
            sys.exit("the join token's checksum is wrong")
        label, secret = body.split(".")
        if not label.startswith(self.PREFIX):
            sys.exit("not a join token")
        self.id = label.removeprefix(self.PREFIX)
        self.key = Ed25519PrivateKey.from_private_bytes(base64.urlsafe_b64decode(secret + "="))
        if token_id(self.key) != self.id:
            sys.exit("the join token's ID is not its key's")


def token_id(key):
    """The first 16 hexadecimal digits of the SHA-256 of the token's public key."""
    return hashlib.sha256(key.public_key().public_bytes_raw()).hexdigest()[:16]


def token_text(seed):
    """The text of the join token with this seed."""
    key = Ed25519PrivateKey.from_private_bytes(seed)
    secret = base64.urlsafe_b64encode(seed).decode().rstrip("=")
    body = f"{JoinToken.PREFIX}{token_id(key)}.{secret}"
    return f"{body}.{hashlib.sha256(body.encode()).hexdigest()[:8]}"


def labelled(label, *parts):
    """What every signature of the protocol covers: 64 spaces, a label, a zero, the parts."""
    return b" " * 64 + label.encode() + b"\0" + b"".join(parts)


def enrollment_transcript(method, role, start, challenge):
    """What the evidence key (role "evidence") and the CSR's key (role "subject") sign."""
    digests = hashlib.sha256(start).digest(), hashlib.sha256(challenge).digest()
    return labelled(f"fleetca-enroll-v1/{method}/{role}", *digests)


def trust_bundle_transcript(bundle):
    """What a control root signs."""
    return labelled("fleetca-trust-bundle-v1", bundle)


def audit_head_transcript(last_sequence, at_millis, head):
    """What an audit seal signs."""
    return labelled("fleetca-audit-head-v1", last_sequence.to_bytes(8, "big"), at_millis.to_bytes(8, "big", signed=True), head)


def crl_head_transcript(issuer, number, this_update_secs, sha256):
    """What the control CA signs of a CRL that it gives out."""
    date = this_update_secs.to_bytes(8, "big", signed=True)
    return labelled("fleetca-crl-head-v1", issuer.encode(), number.to_bytes(8, "big"), date, sha256)
