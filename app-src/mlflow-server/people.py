"""Sign-in of people who come through their door: a token of the identity provider says who asks, with which roles.

The door (kustomize/people) puts the ID token of who signed in into `Authorization: Bearer`. Its signature, issuer and
audience are checked here too, so that nobody who reaches the server another way can say he is somebody. A person has
an account from the first request on, with nobody's password, and what teams.yaml gives it; the group `plumbline:admin`
makes it an administrator.
"""

import os
import secrets
import time
from functools import lru_cache

import jwt
import requests
from mlflow.server.auth import Authorization, store  # type: ignore[attr-defined]

SESSION_SECONDS = 8 * 3600
"""As long as the door's sessions, whose tokens may be over sooner: kustomize/people/deployment.yaml."""
GROUP, ADMIN = "plumbline:", "plumbline:admin"
ALGORITHMS = ("RS256", "ES256", "PS256")


@lru_cache(maxsize=1)
def _keys(issuer: str) -> jwt.PyJWKClient:
    """The public keys of the identity provider; they are asked for again where a token names a new one."""
    answer = requests.get(f"{issuer.rstrip('/')}/.well-known/openid-configuration", timeout=5)
    answer.raise_for_status()
    return jwt.PyJWKClient(answer.json()["jwks_uri"], timeout=5)


def person(token: str) -> Authorization | None:
    """Who the token is of; None where it is none of ours, or too old."""
    issuer, audience = os.environ.get("ISSUER"), os.environ.get("AUDIENCE")
    if not issuer or not audience:
        return None
    try:
        claims = jwt.decode(
            token,
            _keys(issuer).get_signing_key_from_jwt(token),
            algorithms=ALGORITHMS,
            issuer=issuer,
            audience=audience,
            # The session is what ends; the token is of its beginning.
            options={"require": ["iat", "email"], "verify_exp": False},
        )
    except (jwt.PyJWTError, requests.RequestException):
        return None
    groups = claims.get("groups")
    roles = {str(group) for group in groups if str(group).startswith(GROUP)} if isinstance(groups, list) else set()
    if time.time() - claims["iat"] > SESSION_SECONDS or not roles:
        return None
    name = claims.get("email")
    # Programs have accounts too, and nobody signs in as one: their names are no addresses.
    if not isinstance(name, str) or "@" not in name or claims.get("email_verified") is False:
        return None
    _account(name, ADMIN in roles)
    return Authorization("basic", {"username": name, "password": ""})


def _account(name: str, admin: bool) -> None:
    """Make the account where there is none, and an administrator of it while its person is one."""
    if not store.has_user(name):
        store.create_user(name, secrets.token_urlsafe(32), is_admin=admin)
    elif store.get_user(name).is_admin != admin:
        store.update_user(name, is_admin=admin)
