"""The people's door: TLS, the gateway's question to oauth2-proxy as git declares both, and a page behind them."""

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar
from urllib.parse import urlencode, urljoin, urlsplit

import envoys
import identities
import jwt
import pytest
import services
import yaml
from browsers import Browser
from certificates import Authority
from loopback import Quiet, serving
from programs import program

from plumbline.tree.render.build import build

from .rendered import ROOT

Door = Callable[[str], Browser]
"""{who: a browser of hers}."""
PAGE = "mlflow.staging.plumbline.internal"
PEOPLE: dict[str, Any] = {
    "vera": ["plumbline:viewer"],
    "tom": ["plumbline:trainer", "other"],
    "eve": ["other", "plumbline-viewer", "xplumbline:viewer"],
    "nobody": [],
    "nell": [["plumbline:admin"]],
    "dot": {"plumbline:admin": True},
    "sam": "xplumbline:admin plumbline:viewer",
    "nil": None,
}


class Page(Quiet):
    """Says who it was told asks, and keeps it."""

    asked: ClassVar[list[tuple[str, str]]] = []
    """(who, path)."""

    def do_GET(self) -> None:
        who = " and ".join(map(self._who, self.headers.get_all("authorization", [""])))
        self.asked.append((who, self.path))
        self.send_response(200)
        self.send_header("content-length", str(len(who)))
        self.end_headers()
        self.wfile.write(who.encode())

    do_POST = do_PUT = do_TRACE = do_OPTIONS = do_GET

    @staticmethod
    def _who(authorization: str) -> str:
        scheme, _, token = authorization.partition(" ")
        return jwt.decode(token, options={"verify_signature": False})["email"] if scheme == "Bearer" else "nobody"


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
        serving(Page) as page,
        envoys.running(
            folder, [question(), refusal()], routes, page, folder / "tls", people=f"http://127.0.0.1:{port}"
        ) as gateway,
    ):
        trusted = ssl.create_default_context(cafile=str(authority.ca))
        yield lambda name: Browser(name, PAGE, gateway, trusted)


@pytest.mark.parametrize(
    ("name", "status"), [("vera", 200), ("tom", 200), *((name, 403) for name in PEOPLE if name not in ("vera", "tom"))]
)
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


def heads(*lines: str, first: str = "GET /api HTTP/1.1", host: str = PAGE, body: str = "") -> bytes:
    return "\r\n".join([first, f"host: {host}", *lines, "", body]).encode("latin-1")


INSIDE = f"GET /inside HTTP/1.1\r\nhost: {PAGE}\r\n\r\n"
CHUNK = f"0\r\n\r\n{INSIDE}"


@pytest.mark.parametrize(("name", "sent"), [
    ("a length and chunks", heads(f"content-length: {len(CHUNK)}", "transfer-encoding: chunked", body=CHUNK)),
    ("chunks in disguise", heads("transfer-encoding: \x0bchunked", f"content-length: {len(CHUNK)}", body=CHUNK)),
    ("two lengths", heads("content-length: 0", f"content-length: {len(INSIDE)}", body=INSIDE)),
    ("a request inside of one", heads(first="POST /api HTTP/1.1", body=INSIDE)),
    ("a folded line", heads("x: y", " authorization: Bearer x")),
    ("another protocol, h2c", heads("connection: upgrade, http2-settings", "upgrade: h2c", "http2-settings: AAMAAABk",
        body=INSIDE)),
    ("another protocol, websocket", heads("connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==", body=INSIDE)),
    ("no host", b"GET /api HTTP/1.0\r\n\r\n"),
    ("two hosts", heads("host: argocd.staging.plumbline.internal")),
    ("a host in the target", heads(first=f"GET https://user@{PAGE}:1/robots.txt HTTP/1.1")),
    ("a method over another", heads("x-http-method-override: GET", first="OPTIONS /api HTTP/1.1")),
    ("a method that echoes", heads(first="TRACE /api HTTP/1.1")),
    ("a page's question before it asks", heads("origin: https://elsewhere.example",
        "access-control-request-method: POST", first="OPTIONS /api HTTP/1.1")),
    ("a cookie that is none of its pieces", heads("cookie: __Host-people_0=a; __Host-people_1=b")),
    ("a cookie twice", heads("cookie: __Host-people=", "cookie: __Host-people=x|1|y")),
    ("a cookie without end", heads(f"cookie: __Host-people={'x' * 40000}")),
    ("a callback that nobody asked for", heads(first="GET /oauth2/callback?code=x&state=y%3A%2Fapi HTTP/1.1")),
    ("what a gateway says", heads("x-envoy-original-path: /oauth2/ping", "x-envoy-internal: true",
        "x-forwarded-for: 127.0.0.1", "x-forwarded-uri: /oauth2/ping", "x-forwarded-host: x",
        "x-forwarded-proto: http")),
    ("what oauth2-proxy says", heads("x-auth-request-user: ivy", "x-auth-request-groups: plumbline:admin",
        "x-auth-request-access-token: x", "x-auth-request-redirect: /oauth2/ping")),
])  # fmt: skip
def test_no_way_of_framing_a_request_reaches_a_page(door: Door, name: str, sent: bytes) -> None:
    before = len(Page.asked)
    answer = answered(door("eve"), sent)
    assert Page.asked[before:] == [], name
    assert answer[:9] in (b"HTTP/1.1 ", b"HTTP/1.0 ", b""), answer
    assert b" 200 OK\r\n" not in answer


def answered(browser: Browser, sent: bytes, seconds: float = 1) -> bytes:
    """What is answered until the connection ends, or nothing more comes."""
    answer = b""
    with (
        socket.create_connection(("127.0.0.1", browser.port), timeout=20) as plain,
        browser.trusted.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        secure.sendall(sent)
        with suppress(OSError):
            while piece := secure.recv(65536):
                answer += piece
                secure.settimeout(seconds)
    return answer


@pytest.mark.parametrize("path", [
    "/oauth2%2fping", "/oauth2%2Fstatic%2Fcss%2Fbulma.min.css", "/%6fauth2/ping", "/%72obots.txt", "/robots%2etxt",
    "/oauth2/ping%2f..%2f..%2fapi", "/oauth2/static/css/bulma.min.css/../../../../api", "/oauth2//ping",
    "/oauth2/ping;x", "/oauth2;/ping", "/oauth2/./ping", "/x/..%2foauth2/ping", "/x/..;/oauth2/ping", "/robots.txt%00",
    "/robots.txt;/api", "/robots.txt/..;/api", "/%2frobots.txt", "/OAUTH2/PING", "/api?/robots.txt",
    "/api%23/../robots.txt",
    "/api%3f/../robots.txt", "/./robots.txt", "/robots.txt?x", "/oauth2%252fping",
])  # fmt: skip
def test_no_way_of_writing_a_path_reaches_a_page(door: Door, path: str) -> None:
    before = len(Page.asked)
    answer = answered(door("eve"), heads("connection: close", first=f"GET {path} HTTP/1.1"))
    assert Page.asked[before:] == []
    assert not answer.startswith(b"HTTP/1.1 200"), answer


@pytest.mark.parametrize("place", [
    "https://elsewhere.example/", "//elsewhere.example/", "/\\elsewhere.example/", "/%09/elsewhere.example/",
    "\\/\\/elsewhere.example/", "https:elsewhere.example", f"https://{PAGE}@elsewhere.example/",
    f"https://{PAGE}.elsewhere.example/", "javascript:alert(1)", "/x/../../\\elsewhere.example",
    "https://elsewhere.example\\@" + PAGE,
])  # fmt: skip
def test_who_signs_in_is_not_led_elsewhere(door: Door, place: str) -> None:
    browser = door("vera")
    answer = browser.ask(f"https://{PAGE}/oauth2/start?{urlencode({'rd': place})}")
    for _ in range(4):
        if answer.status_code != 302:
            break
        at = urljoin(f"https://{PAGE}/", answer.headers["location"].replace("\\", "/"))
        assert urlsplit(at).scheme in ("http", "https")
        assert urlsplit(at).hostname in (PAGE, "127.0.0.1"), at
        answer = browser.ask(at)
    assert answer.status_code in (200, 403), answer.status_code


@pytest.mark.parametrize("own", [
    ["authorization: Basic YWRtaW46YWRtaW4="], ["authorization: Bearer x", "authorization: Bearer y"],
    ["Authorization: x", "AUTHORIZATION: y"], ["connection: authorization, cookie"],
    ["x-auth-request-email: ivy@example.org", "x-forwarded-email: ivy@example.org"],
])  # fmt: skip
def test_who_is_signed_in_is_nobody_else(door: Door, own: list[str]) -> None:
    browser = door("vera")
    browser.open("/")
    before = len(Page.asked)
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    answered(browser, heads(f"cookie: {cookie}", *own))
    assert Page.asked[before:] in ([("vera@example.org", "/api")], [])
