"""A certificate authority for the test cluster, and the kubeconfigs of its components."""

import datetime
import ipaddress
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from harness.settings import API_URL, STATE

FOLDER = STATE / "pki"
CA = FOLDER / "ca.crt"
_USAGES = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]


def create() -> None:
    """Make the authority and the key that signs service account tokens."""
    FOLDER.mkdir(parents=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "plumbline test cluster")])
    certificate = _builder(name, name, key).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    _write("ca", certificate.sign(key, hashes.SHA256()), key)
    tokens = rsa.generate_private_key(65537, 2048)
    (FOLDER / "tokens.key").write_bytes(_pem(tokens))


def issue(file: str, user: str, group: str = "", hosts: tuple[str, ...] = ()) -> tuple[Path, Path]:
    """A certificate for a server and client named `user` in `group`: the paths of certificate and key."""
    authority = x509.load_pem_x509_certificate(CA.read_bytes())
    signer = serialization.load_pem_private_key((FOLDER / "ca.key").read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    names = [x509.NameAttribute(NameOID.COMMON_NAME, user)]
    if group:
        names.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(x509.Name(names), authority.subject, key)
    builder = builder.add_extension(x509.ExtendedKeyUsage(_USAGES), critical=False)
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_san(host) for host in hosts]), critical=False)
    _write(file, builder.sign(signer, hashes.SHA256()), key)
    return FOLDER / f"{file}.crt", FOLDER / f"{file}.key"


def kubeconfig(path: Path, user: str, group: str = "") -> Path:
    """A kubeconfig with a client certificate for `user`."""
    certificate, key = issue(path.stem, user, group)
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": API_URL, "certificate-authority": str(CA)}}],
        "users": [{"name": user, "user": {"client-certificate": str(certificate), "client-key": str(key)}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
        "current-context": "test",
    }
    path.write_text(yaml.safe_dump(config))
    return path


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=30))
    )


def _san(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(file: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    (FOLDER / f"{file}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (FOLDER / f"{file}.key").write_bytes(_pem(key))
    (FOLDER / f"{file}.key").chmod(0o600)


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
