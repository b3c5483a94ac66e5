"""What pods ask AWS itself: the value of a secret, and the keys of their role (EKS Pod Identity).

Run as `python -m harness.aws ADDRESS CERTIFICATE KEY SECRETS`: HTTPS there, and plain HTTP where Pod Identity answers.
SECRETS is a JSON file: {entry of Secrets Manager: {property: value}}. Every pod has the same role, that of $ROOT_*.
"""

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from harness.https import serve
from harness.settings import POD_IDENTITY_IP


class Handler(BaseHTTPRequestHandler):
    """GetSecretValue of Secrets Manager, and the credentials of a container."""

    secrets: Path

    def do_GET(self) -> None:
        """Keys that a client takes without asking further."""
        keys = {"AccessKeyId": os.environ["ROOT_ACCESS_KEY"], "SecretAccessKey": os.environ["ROOT_SECRET_KEY"]}
        self._answer(200, keys | {"Token": None, "Expiration": "2099-01-01T00:00:00Z"})

    def do_POST(self) -> None:
        """Read again each time: whoever rotates a secret writes the file."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["SecretId"]
        found = json.loads(self.secrets.read_text()).get(asked)
        if found is None:
            self._answer(400, {"__type": "ResourceNotFoundException", "Message": f"no secret {asked}"})
        else:
            self._answer(200, {"Name": asked, "SecretString": json.dumps(found)})

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serve until killed."""
    address, certificate, key, secrets = sys.argv[1:]
    Handler.secrets = Path(secrets)
    identity = ThreadingHTTPServer((POD_IDENTITY_IP, 80), Handler)
    threading.Thread(target=identity.serve_forever, daemon=True).start()
    serve(Handler, (address, 443), Path(certificate), Path(key))


if __name__ == "__main__":
    main()
