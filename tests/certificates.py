"""An authority of a test's own, and certificates of servers by it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


class Authority:
    """What callers believe is in `ca`; each certificate has another key and number."""

    def __init__(self, folder: Path) -> None:
        self._key, self.ca = ec.generate_private_key(ec.SECP256R1()), folder / "ca.crt"
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority of this test")])
        builder = self._builder(self._name, self._key)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(x509.BasicConstraints(True, 0), True).add_extension(usage, True)
        self.ca.write_bytes(builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM))

    def issue(self, folder: Path, host: str = "localhost") -> int:
        """Write tls.crt and tls.key, as a Secret of this type has them; the certificate's number."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName(host)])
        builder = self._builder(x509.Name([]), key).add_extension(names, True)
        certificate = builder.sign(self._key, SHA256())
        folder.mkdir()
        (folder / "tls.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
        (folder / "tls.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return certificate.serial_number

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
        )
