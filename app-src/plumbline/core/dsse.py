"""Signed statements: in-toto in a DSSE envelope (secure-systems-lab/dsse, protocol.md), by a key of a set.

A file of public keys holds one PEM block for each key that is believed. A new key is added before anything is signed
with it, and an old one is taken out when nothing that is served is signed with it any more: neither is an outage.
"""

import base64
import hashlib
import json
from collections.abc import Iterable
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from plumbline.core.errors import Misuse, Refused

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
_END = b"-----END PUBLIC KEY-----"


class SignatureError(Refused):
    """What was signed is missing, malformed, or of a key that is not believed."""


class PublicKeyError(Misuse, SignatureError):
    """What was given as a public key is none."""


def read_public_keys(pem: bytes) -> dict[str, ec.EllipticCurvePublicKey]:
    """{key id: key} of a text of one or more PEM blocks; raises PublicKeyError where one is no key of ours."""
    blocks = [block + _END for block in pem.split(_END)[:-1]]
    if not blocks or pem.rpartition(_END)[2].strip():
        raise PublicKeyError("the public key is not PEM; expected the public half of an ECDSA P-256 key, or several")
    keys = {}
    for block in blocks:
        try:
            key = load_pem_public_key(block)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise PublicKeyError("the public key is not PEM; expected the public half of an ECDSA P-256 key") from error
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise PublicKeyError("the public key is of another kind; expected PEM, ECDSA P-256")
        keys[key_id(key)] = key
    return keys


def key_id(key: ec.EllipticCurvePublicKey) -> str:
    """The sha256 of the key's SubjectPublicKeyInfo, in hex: what its signatures name it by."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def seal(statement: dict[str, Any], private_key: bytes) -> dict[str, Any]:
    """The envelope of a statement; raises Misuse where the key is no PEM of an ECDSA P-256 key."""
    try:
        key = load_pem_private_key(private_key, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Misuse(f"the signing key is not PEM without a password ({error}); expected ECDSA P-256") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Misuse("the signing key is of another kind; expected PEM, ECDSA P-256")
    payload = json.dumps(statement, sort_keys=True).encode()
    signature = key.sign(_encoded(PAYLOAD_TYPE, payload), ec.ECDSA(hashes.SHA256()))
    signed = {"keyid": key_id(key.public_key()), "sig": base64.b64encode(signature).decode()}
    return {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [signed],
    }


def as_pem(keys: Iterable[ec.EllipticCurvePublicKey]) -> bytes:
    """A file of public keys, one block each."""
    return b"".join(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) for key in keys)


def signed_by(envelope: Any, public_keys: bytes) -> set[str]:
    """The ids of those keys that signed an envelope; whatever it names is not believed."""

    def opens(key: ec.EllipticCurvePublicKey) -> bool:
        try:
            opened(envelope, as_pem([key]))
        except SignatureError:
            return False
        return True

    return {name for name, key in read_public_keys(public_keys).items() if opens(key)}


def opened(envelope: Any, public_keys: bytes) -> dict[str, Any]:
    """The in-toto statement of an envelope that one of the keys signed; raises SignatureError with the reason."""
    keys = read_public_keys(public_keys)
    try:
        kind, payload = envelope["payloadType"], base64.b64decode(envelope["payload"], validate=True)
        signatures = [base64.b64decode(item["sig"], validate=True) for item in envelope["signatures"]]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SignatureError(f"is not a signature bundle: {error!r:.200}") from error
    if not isinstance(kind, str):
        raise SignatureError(f"is not a signature bundle: its payload is of the type {kind!r:.60}")
    if kind != PAYLOAD_TYPE:
        raise SignatureError(f"is no in-toto statement, but {kind:.60}")
    message = _encoded(kind, payload)
    if not any(_is_signed(key, signature, message) for key in keys.values() for signature in signatures[:8]):
        raise SignatureError(f"was not made with a key that is trusted here ({', '.join(name[:12] for name in keys)})")
    try:
        statement = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise SignatureError(f"holds no JSON: {error}") from error
    if not isinstance(statement, dict):
        raise SignatureError("holds no statement")
    return statement


def _is_signed(key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _encoded(kind: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding."""
    name = kind.encode()
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(payload), payload)
