"""A client of Fleet CA that knows nothing but the .proto files: lists the services by reflection, asks for their
health, takes the trust bundle, and enrolls a device by its join token. Prints what it saw as JSON."""

import argparse
import datetime
import json
import pathlib
import queue

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

import wire

DEADLINE = 30
SIGNATURE = ec.ECDSA(hashes.SHA256())
REFLECTIONS = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


def der(thing):
    """A certificate or CSR as DER."""
    return thing.public_bytes(serialization.Encoding.DER)


def services(channel, reflection):
    """The names of all services. The messages of v1 and v1alpha are the same."""
    call = channel.stream_stream(
        f"/{reflection}/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    answer = next(call(iter([request]), timeout=DEADLINE))
    return sorted(service.name for service in answer.list_services_response.service)


def health(channel, service):
    """SERVING, NOT_SERVING, or the status code of the refusal."""
    request = health_pb2.HealthCheckRequest(service=service)
    try:
        answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=DEADLINE)
    except grpc.RpcError as error:
        return error.code().name
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def check_bundle(messages, signed, root):
    """The trust bundle, which the control root must have signed."""
    root_spki = root.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    digest = hashes.Hash(hashes.SHA256())
    digest.update(root_spki)
    root_id = digest.finalize()
    signature = next(entry.signature for entry in signed.signatures if entry.root_spki_sha256 == root_id)
    root.public_key().verify(signature, wire.trust_bundle_transcript(signed.bundle), SIGNATURE)
    return messages.TrustBundle.FromString(signed.bundle)


def enroll(stub, messages, token, start):
    """One enrollment: Start, Challenge, Proof, Issued. Gives the key too."""
    key = ec.generate_private_key(ec.SECP256R1())
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    start.csr = der(csr)
    start.token.token_id = token.id
    start_bytes = start.SerializeToString()
    requests = queue.SimpleQueue()
    requests.put(messages.EnrollRequest(start=start_bytes))
    answers = stub.Enroll(iter(requests.get, None), timeout=DEADLINE)
    challenge = next(answers).challenge
    proof = messages.Proof(
        evidence_signature=token.key.sign(
            wire.enrollment_transcript("token", "evidence", start_bytes, challenge)
        ),
        subject_signature=key.sign(
            wire.enrollment_transcript("token", "subject", start_bytes, challenge), SIGNATURE
        ),
    )
    requests.put(messages.EnrollRequest(proof=proof))
    issued = next(answers).issued
    requests.put(None)
    return key, issued


def check_chain(chain, bundle, key, spiffe_id):
    """Leaf, issuing CA, device root: names, signatures, dates, and our own key and ID in the leaf."""
    roots = {root.subject: root for root in map(x509.load_der_x509_certificate, bundle.device_roots)}
    certificates = chain + [roots[chain[-1].issuer]]
    now = datetime.datetime.now(datetime.timezone.utc)
    for certificate, issuer in zip(certificates, certificates[1:]):
        certificate.verify_directly_issued_by(issuer)
        assert certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc
    leaf = chain[0]
    assert leaf.public_key() == key.public_key()
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [spiffe_id]


def main():
    """See the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True, help="HOST:PORT")
    parser.add_argument("--root", required=True, type=pathlib.Path, help="the control root (PEM)")
    parser.add_argument("--trust-domain", required=True)
    parser.add_argument("--device-id", required=True)
    parser.add_argument("--token", required=True, type=pathlib.Path, help="file with the join token")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="folder for key.pem and credential.pem")
    options = parser.parse_args()

    modules, service_modules = wire.compile_protos()
    messages, stubs = modules["enrollment"], service_modules["enrollment"]
    root_pem = options.root.read_bytes()
    channel = grpc.secure_channel(options.server, grpc.ssl_channel_credentials(root_pem))
    seen = {reflection: services(channel, reflection) for reflection in REFLECTIONS}
    healths = {name: health(channel, name) for name in ("", "fleetca.v1.Enrollment", "fleetca.v1.Nothing")}

    stub = stubs.EnrollmentStub(channel)
    root = x509.load_pem_x509_certificate(root_pem)
    bundle = check_bundle(messages, stub.GetTrustBundle(messages.GetTrustBundleRequest(), timeout=DEADLINE), root)
    assert bundle.trust_domain == options.trust_domain
    server_time = stub.GetTime(messages.GetTimeRequest(), timeout=DEADLINE).server_time.ToDatetime()

    start = messages.Start(
        trust_domain=options.trust_domain, kind=messages.KIND_DEVICE, id=options.device_id
    )
    key, issued = enroll(stub, messages, wire.JoinToken(options.token.read_text()), start)
    assert check_bundle(messages, issued.trust_bundle, root) == bundle
    chain = [x509.load_der_x509_certificate(certificate) for certificate in issued.chain]
    check_chain(chain, bundle, key, f"spiffe://{options.trust_domain}/device/{options.device_id}")

    options.out.mkdir(exist_ok=True)
    pem = b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in chain)
    (options.out / "credential.pem").write_bytes(pem)
    (options.out / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    window = issued.renewal_window
    print(
        json.dumps(
            {
                "services": seen,
                "health": healths,
                "server_time": server_time.isoformat() + "Z",
                "serial": f"{chain[0].serial_number:032x}",
                "confirm_required": issued.confirm_required,
                "renewal_window_seconds": window.not_after.seconds - window.not_before.seconds,
            }
        )
    )


if __name__ == "__main__":
    main()
