"""A person's browser, as far as signing in goes: it keeps cookies, and goes where it is sent."""

import ssl
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from urllib.parse import urljoin, urlsplit

import httpx


@dataclass(slots=True)
class Browser:
    """Somebody's, at one page."""

    name: str
    """Who it is to the identity provider of tests/identities.py."""
    page: str
    """The public name of the page."""
    port: int
    """Of loopback, which leads there."""
    trusted: ssl.SSLContext
    certified: str = "localhost"
    """The name that the page's certificate is for."""
    provider: dict[str, tuple[str, ssl.SSLContext]] = field(default_factory=dict)
    """{name: (its address, whom to believe)} of an identity provider with TLS."""
    cookies: dict[str, str] = field(default_factory=dict)

    def open(self, path: str, method: str = "GET", **headers: str) -> httpx.Response:
        """What the page shows in the end."""
        address = f"https://{self.page}{path}"
        for _ in range(8):
            answer = self.ask(address, method, **headers)
            if answer.status_code != 302:
                break
            address = urljoin(address, answer.headers["location"])
        return answer

    def ask(self, address: str, method: str = "GET", **headers: str) -> httpx.Response:
        """One answer, of the page or of the identity provider."""
        place = urlsplit(address)
        if place.hostname != self.page:
            query = dict(httpx.QueryParams(place.query)) | {"person": self.name}
            if place.hostname not in self.provider:
                return httpx.get(address, params=query, timeout=20)
            there, trusted = self.provider[place.hostname]
            with httpx.Client(verify=trusted, timeout=20) as client:
                host, named = {"host": place.hostname}, {"sni_hostname": place.hostname}
                return client.get(f"https://{there}{place.path}", params=query, headers=host, extensions=named)
        url = f"https://127.0.0.1:{self.port}{place._replace(scheme='', netloc='').geturl()}"
        headers |= {"host": self.page, "cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        with httpx.Client(verify=self.trusted, timeout=20) as client:
            answer = client.request(method, url, headers=headers, extensions={"sni_hostname": self.certified})
        for line in answer.headers.get_list("set-cookie"):
            for name, cookie in SimpleCookie(line).items():
                assert cookie["secure"], "no cookie goes over plain HTTP"
                self.cookies[name] = cookie.value
        return answer
