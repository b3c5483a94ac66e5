"""The organisation's identity provider, which knows these people.

Run as `python -m harness.identity ADDRESS CERTIFICATE KEY ISSUER`.
"""

import sys
from pathlib import Path

import identities

from harness.https import serve

PEOPLE = {"vera": ["plumbline:viewer"], "ivy": ["plumbline:admin"], "eve": ["everybody"]}


def main() -> None:
    """Serve until killed."""
    address, certificate, key, issuer = sys.argv[1:]
    provider = identities.Provider(PEOPLE)
    provider.url = issuer
    serve(identities.handler(provider), (address, 443), Path(certificate), Path(key))


if __name__ == "__main__":
    main()
