"""The people's door: TLS, the gateway's question to oauth2-proxy as git declares both, and a page behind them."""

import ssl
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

import envoys
import identities
import jwt
import pytest
import services
import yaml
from browsers import Browser
from certificates import Authority
from programs import program

from plumbline.tree.render.build import build

from .rendered import ROOT

Door = Callable[[str], Browser]
"""{who: a browser of hers}."""
PAGE = "mlflow.staging.plumbline.internal"
PEOPLE = {
    "vera": ["plumbline:viewer"],
    "tom": ["plumbline:trainer", "other"],
    "eve": ["other", "plumbline-viewer", "xplumbline:viewer"],
    "nobody": [],
}


class Page(BaseHTTPRequestHandler):
    """Says who it was told asks."""

    def do_GET(self) -> None:
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        said = jwt.decode(token, options={"verify_signature": False})["email"] if scheme == "Bearer" else "nobody"
        self.send_response(200)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def provider() -> Iterator[identities.Provider]:
    with identities.running(PEOPLE) as provider:
        yield provider


def question() -> dict[str, Any]:
    """What istiod makes of the provider that apps/components/single-sign-on gives it."""
    (operation,) = yaml.safe_load((ROOT / "apps/components/single-sign-on/istiod.yaml").read_text())
    (found,) = operation["value"]["extensionProviders"]
    asked = found["envoyExtAuthzHttp"]

    def exactly(names: list[str]) -> dict[str, Any]:
        return {"patterns": [{"exact": name, "ignore_case": True} for name in names]}

    return {
        "name": "envoy.filters.http.ext_authz",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
            "allowed_headers": exactly(asked["includeRequestHeadersInCheck"]),
            "http_service": {
                "server_uri": {"uri": "http://people", "cluster": "people", "timeout": asked["timeout"]},
                "authorization_response": {
                    "allowed_upstream_headers": exactly(asked["headersToUpstreamOnAllow"]),
                    "allowed_client_headers_on_success": exactly(asked["headersToDownstreamOnAllow"]),
                },
            },
        },
    }


def refusal() -> dict[str, Any]:
    """What istiod makes of the policy that refuses the sign-in's own paths to the pages."""
    documents = yaml.safe_load_all((ROOT / "kustomize/gateway/components/people/sign-in.yaml").read_text())
    (policy,) = [document["spec"] for document in documents if document["spec"]["action"] == "DENY"]
    (rule,) = policy["rules"]
    (to,) = rule["to"]
    paths = [{"prefix": path[:-1]} if path.endswith("*") else {"exact": path} for path in to["operation"]["paths"]]
    rules = [{"url_path": {"path": path}} for path in paths]
    return {
        "name": "envoy.filters.http.rbac",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "rules": {
                "action": "DENY",
                "policies": {"own": {"permissions": [{"or_rules": {"rules": rules}}], "principals": [{"any": True}]}},
            },
        },
    }


@pytest.fixture(scope="module")
def door(provider: identities.Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """One page behind it."""
    folder = tmp_path_factory.mktemp("door")
    objects = build(ROOT, "clusters/staging/workloads/people")
    (deployment,) = [item for item in objects if item["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    port, metrics = services.free_port(), services.free_port()
    here = {"ISSUER": provider.url, "0.0.0.0:4180": f"127.0.0.1:{port}", "0.0.0.0:44180": f"127.0.0.1:{metrics}"}
    arguments = [str(program("oauth2-proxy")), *container["args"]]
    for name, value in here.items():
        arguments = [argument.replace(f"$({name})", value).replace(name, value) for argument in arguments]
    secret = {"client-id": identities.CLIENT, "client-secret": identities.SECRET, "cookie-secret": "a" * 32}
    environment = {
        item["name"]: secret[item["valueFrom"]["secretKeyRef"]["key"]]
        for item in container["env"]
        if "valueFrom" in item
    }
    ready = partial(services.answers_http, f"http://127.0.0.1:{port}{container['readinessProbe']['httpGet']['path']}")
    authority = Authority(folder)
    authority.issue(folder / "tls")
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "server"}}]
    with (
        services.process(arguments, environment=environment, ready=ready, log=folder / "oauth2-proxy.log"),
        identities.serving(Page) as page,
        envoys.running(
            folder, [question(), refusal()], routes, page, folder / "tls", people=f"http://127.0.0.1:{port}"
        ) as gateway,
    ):
        trusted = ssl.create_default_context(cafile=str(authority.ca))
        yield lambda name: Browser(name, PAGE, gateway, trusted)


@pytest.mark.parametrize(("name", "status"), [("vera", 200), ("tom", 200), ("eve", 403), ("nobody", 403)])
def test_who_has_a_role_signs_in_once_and_nobody_else(door: Door, name: str, status: int) -> None:
    browser = door(name)
    answer = browser.open("/some/page?x=1")
    assert answer.status_code == status, answer.text
    assert "__Host-people" in browser.cookies if status == 200 else "__Host-people" not in browser.cookies
    if status == 200:
        assert answer.text == f"{name}@example.org"
        assert str(answer.url).endswith("/some/page?x=1"), "back where he wanted to go"
        assert browser.ask(f"https://{PAGE}/other").text == f"{name}@example.org", "without being asked again"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer of-my-own"},
        {"authorization": "Basic YWRtaW46YWRtaW4="},
        {"x-forwarded-user": "vera", "x-auth-request-email": "vera@example.org"},
        {"x-forwarded-uri": "/ping", "x-original-url": "/ping"},
        {"cookie": "__Host-people=made-up"},
    ],
)
def test_what_a_stranger_says_of_himself_opens_nothing(door: Door, headers: dict[str, str]) -> None:
    browser = door("eve")
    if "cookie" in headers:
        browser.cookies["__Host-people"] = "made-up"
    answer = browser.ask(f"https://{PAGE}/api", **{name: value for name, value in headers.items() if name != "cookie"})
    assert answer.status_code == 302
    assert urlsplit(answer.headers["location"]).path == "/authorization"


@pytest.mark.parametrize("path", [
        "/ping", "/ready", "/robots.txt", "/oauth2/ping", "/oauth2/ready", "/oauth2/auth", "/oauth2/sign_in",
        "/oauth2/static/css/bulma.min.css", "/oauth2/../api", "/oauth2/static/../../api", "//robots.txt",
    ],
)  # fmt: skip
def test_no_path_of_the_sign_in_itself_reaches_the_page(door: Door, path: str) -> None:
    answer = door("eve").ask(f"https://{PAGE}{path}")
    assert answer.text != "nobody", "the page was asked by somebody who is not signed in"
    assert answer.status_code in (301, 302, 401, 403), answer.status_code


def test_a_session_of_one_page_is_no_session_of_another_name(door: Door) -> None:
    browser = door("vera")
    browser.open("/")
    assert {name for name, value in browser.cookies.items() if value} == {"__Host-people"}
    gone = browser.ask(f"https://{PAGE}/oauth2/sign_out").headers.get_list("set-cookie")
    assert gone, "who signs out is out"
    assert not [line for line in gone if "domain=" in line.lower()], "of one name alone"
    assert browser.ask(f"https://{PAGE}/").status_code == 302
