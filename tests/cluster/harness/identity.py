"""The organisation's identity provider, which knows these people.

Run as `python -m harness.identity ADDRESS CERTIFICATE KEY ISSUER`.
"""

import ssl
import sys
from http.server import ThreadingHTTPServer

import identities

PEOPLE = {"vera": ["plumbline:viewer"], "ivy": ["plumbline:admin"], "eve": ["everybody"]}


def main() -> None:
    """Serve until killed."""
    address, certificate, key, issuer = sys.argv[1:]
    provider = identities.Provider(PEOPLE)
    provider.url = issuer
    server = ThreadingHTTPServer((address, 443), identities.handler(provider))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.serve_forever()


if __name__ == "__main__":
    main()
