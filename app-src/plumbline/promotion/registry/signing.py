"""Keys and signatures: OpenSSF model signing with an ECDSA P-256 key pair."""

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from plumbline.core.artifact import SIGNATURE
from plumbline.core.errors import Refused


def generate_keys(folder: Path) -> tuple[Path, Path]:
    """Make a key pair for local use: (private, public) PEM paths. Raises Refused rather than replace a key.

    The private key is written for its owner alone; a real environment takes it from its secret store.
    """
    private, public = folder / "signing-key.pem", folder / "signing-key.pub"
    for path in (private, public):
        if path.exists():
            raise Refused(f"{path} exists: a lost key orphans every model that it signed; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    private.touch(mode=0o600)
    private.write_text(new_private_key(), encoding="ascii")
    public.write_text(public_half(private.read_text(encoding="ascii")), encoding="ascii")
    return private, public


def new_private_key() -> str:
    """PEM of a new key."""
    key = ec.generate_private_key(ec.SECP256R1())
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return encoded.decode("ascii")


def public_half(private: str) -> str:
    """PEM of the public half of a PEM."""
    key = serialization.load_pem_private_key(private.encode("ascii"), password=None)
    encoded = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return encoded.decode("ascii")


def sign(bundle: Path, private_key: Path) -> Path:
    """Write `model.sig` over every file of the folder; the signature does not cover itself."""
    from model_signing import hashing, signing  # 1.6 s to import, and only registration signs

    signature = bundle / SIGNATURE
    signature.unlink(missing_ok=True)
    hashed = hashing.Config()  # type: ignore[no-untyped-call]
    hashed.set_ignored_paths(paths=[signature], ignore_git_paths=False)
    signer = signing.Config()  # type: ignore[no-untyped-call]
    try:
        signer.use_elliptic_key_signer(private_key=private_key).set_hashing_config(hashed).sign(bundle, signature)
    except ValueError as error:
        raise Refused(f"{private_key}: cannot sign with it ({error}); expected PEM, ECDSA P-256") from error
    return signature
