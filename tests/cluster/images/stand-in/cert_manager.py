"""Stands for cert-manager: signs what Certificates ask for, self-signed or by a CA's Secret, and renews it in time.

Three programs of the chart in one, told apart by their options: controller, webhook and the injector of authorities.
"""

import base64
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import kube
import serve

_GROUP = "/apis/cert-manager.io/v1"
_INJECT = "cert-manager.io/inject-ca-from-secret"
_ADMISSION = "/apis/admissionregistration.k8s.io/v1"


def _sign() -> None:
    issuers = {(_namespace(item), item["metadata"]["name"]): item for item in kube.items(f"{_GROUP}/issuers")}
    for (namespace, name), issuer in issuers.items():
        _say(f"{_GROUP}/namespaces/{namespace}/issuers/{name}", issuer, *_issuer_ready(issuer))
    for item in kube.items(f"{_GROUP}/certificates"):
        path = f"{_GROUP}/namespaces/{_namespace(item)}/certificates/{item['metadata']['name']}"
        try:
            end = _certificate(item, issuers)
            _say(path, item, True, "Ready", "Certificate is up to date and has not expired", notAfter=_time(end))
        except (RuntimeError, KeyError) as error:
            _say(path, item, False, "DoesNotExist", str(error))


def _namespace(item: dict[str, Any]) -> str:
    return str(item["metadata"]["namespace"])


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _issuer_ready(issuer: dict[str, Any]) -> tuple[bool, str, str]:
    spec = issuer["spec"]
    if "ca" in spec and _secret(_namespace(issuer), spec["ca"]["secretName"]) is None:
        return False, "ErrGetKeyPair", f"no Secret {spec['ca']['secretName']}"
    known = spec.keys() & {"ca", "selfSigned"}
    return bool(known), "KeyPairVerified" if known else "Unknown", "" if known else "the stand-in knows no such issuer"


def _say(path: str, item: dict[str, Any], ready: bool, reason: str, message: str, **more: str) -> None:
    status = item.get("status", {})
    before = status.get("conditions", [])
    new = {"conditions": [kube.condition(ready, reason, message, before)], **more}
    if any(status.get(key) != value for key, value in new.items()):
        kube.set_status(path, new)


def _secret(namespace: str, name: str) -> Any:
    return kube.request("GET", f"/api/v1/namespaces/{namespace}/secrets/{name}")


def _certificate(item: dict[str, Any], issuers: dict[tuple[str, str], Any]) -> datetime:
    """Until when it is valid, after it was made or renewed where that was due. Raises RuntimeError."""
    spec, namespace = item["spec"], _namespace(item)
    issuer = issuers.get((namespace, spec["issuerRef"]["name"]))
    if issuer is None:
        raise RuntimeError(f"no Issuer {spec['issuerRef']['name']}")
    present = _secret(namespace, spec["secretName"])
    now = datetime.now(UTC)
    if present is not None and present["metadata"].get("annotations", {}).get("stand-in/spec") == str(spec):
        end = _end(base64.b64decode(present["data"]["tls.crt"]).decode())
        if now < end - _duration(spec.get("renewBefore", "720h")):
            return end
    with tempfile.TemporaryDirectory() as folder:
        data = _made(item, issuer, present, Path(folder))
    wanted: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {
            "name": spec["secretName"],
            "namespace": namespace,
            "annotations": {"stand-in/spec": str(spec), "cert-manager.io/certificate-name": item["metadata"]["name"]},
        },
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }
    # Of two replicas that see it at once one is refused, and looks again.
    path = f"/api/v1/namespaces/{namespace}/secrets"
    if present is None:
        kube.request("POST", path, wanted)
    else:
        wanted["metadata"]["resourceVersion"] = present["metadata"]["resourceVersion"]
        kube.request("PUT", f"{path}/{spec['secretName']}", wanted)
    return _end(data["tls.crt"].decode())


def _made(item: dict[str, Any], issuer: dict[str, Any], present: Any, folder: Path) -> dict[str, bytes]:
    spec = item["spec"]
    key, certificate = folder / "tls.key", folder / "tls.crt"
    if present is not None and spec.get("privateKey", {}).get("rotationPolicy", "Always") == "Never":
        key.write_bytes(base64.b64decode(present["data"]["tls.key"]))
    else:
        serve.openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
    days = max(1, _duration(spec.get("duration", "2160h")).days)
    names = spec.get("dnsNames", [])
    command = ["req", "-x509", "-new", "-key", key, "-days", days, "-out", certificate]
    command += ["-subj", f"/CN={spec['commonName']}" if "commonName" in spec else "/"]
    command += ["-addext", f"basicConstraints=critical,CA:{'TRUE' if spec.get('isCA') else 'FALSE'}"]
    if names:
        command += ["-addext", "subjectAltName=" + ",".join(f"DNS:{name}" for name in names)]
    authority = b""
    if "ca" in issuer["spec"]:
        signer = _secret(_namespace(issuer), issuer["spec"]["ca"]["secretName"])
        if signer is None:
            raise RuntimeError(f"Issuer {issuer['metadata']['name']} is not ready")
        authority = base64.b64decode(signer["data"]["tls.crt"])
        (folder / "ca.crt").write_bytes(authority)
        (folder / "ca.key").write_bytes(base64.b64decode(signer["data"]["tls.key"]))
        command += ["-CA", folder / "ca.crt", "-CAkey", folder / "ca.key"]
    serve.openssl(*command)
    return {
        "tls.crt": certificate.read_bytes(),
        "tls.key": key.read_bytes(),
        "ca.crt": authority or certificate.read_bytes(),
    }


def _duration(text: str) -> timedelta:
    """Of Go, as Kubernetes writes it back: 2160h0m0s."""
    units = {"h": "hours", "m": "minutes", "s": "seconds"}
    number, found = "", timedelta()
    for sign in text:
        if sign.isdigit():
            number += sign
        else:
            found += timedelta(**{units[sign]: int(number)})
            number = ""
    return found


def _end(certificate: str) -> datetime:
    said = serve.openssl("x509", "-noout", "-enddate", stdin=certificate).strip().partition("=")[2]
    return datetime.strptime(said, "%b %d %H:%M:%S %Y %Z").replace(tzinfo=UTC)


def _inject() -> None:
    """The authority of the Secret that a webhook's annotation names."""
    for kind in ("mutatingwebhookconfigurations", "validatingwebhookconfigurations"):
        for item in kube.items(f"{_ADMISSION}/{kind}"):
            if source := item["metadata"].get("annotations", {}).get(_INJECT):
                secret = _secret(*source.split("/"))
                bundle = ((secret or {}).get("data") or {}).get("ca.crt")
                if bundle and any(hook["clientConfig"].get("caBundle") != bundle for hook in item["webhooks"]):
                    for hook in item["webhooks"]:
                        hook["clientConfig"]["caBundle"] = bundle
                    kube.request("PUT", f"{_ADMISSION}/{kind}/{item['metadata']['name']}", item)


def _webhook(options: dict[str, str]) -> None:
    """Its certificate stands in a Secret, which the first of its replicas makes."""
    namespace, name = (options[f"dynamic-serving-ca-secret-{part}"] for part in ("namespace", "name"))
    folder = Path(tempfile.gettempdir())
    while (secret := _secret(namespace, name)) is None:
        paths = serve.self_signed(options["dynamic-serving-dns-names"], folder)
        data = {path.name: base64.b64encode(path.read_bytes()).decode() for path in paths}
        wanted = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace},
            "data": data | {"ca.crt": data["tls.crt"]},
        }
        try:
            kube.request("POST", f"/api/v1/namespaces/{namespace}/secrets", wanted)
        except RuntimeError as error:
            sys.stderr.write(f"{error}\n")
            time.sleep(1)
    for part in ("tls.crt", "tls.key"):
        (folder / part).write_bytes(base64.b64decode(secret["data"][part]))
    serve.start(int(options["secure-port"]), folder / "tls.crt", folder / "tls.key")
    serve.start(6080)


def main() -> None:
    """Until killed. Of an option that is given several times the last value counts."""
    options = dict(argument.removeprefix("--").partition("=")[::2] for argument in sys.argv[1:])
    if "secure-port" in options:
        _webhook(options)
    elif "cluster-resource-namespace" in options:
        serve.start(9403)
        kube.forever(_sign)
    else:
        kube.forever(_inject)


if __name__ == "__main__":
    main()
