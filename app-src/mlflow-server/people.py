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
from typing import Any

import jwt
import provider
from mlflow.exceptions import MlflowException
from mlflow.server.auth import Authorization, store  # type: ignore[attr-defined]

SESSION_SECONDS = 8 * 3600
"""As long as the door's sessions, whose tokens may be over sooner: kustomize/people/deployment.yaml."""
GROUP, ADMIN = "plumbline:", "plumbline:admin"
ALGORITHMS = ("RS256", "ES256", "PS256")
_LONGEST = 255
"""Characters of an account's name in MLflow's database."""

keys_of = lru_cache(maxsize=1)(provider.Keys)


def person(token: str) -> Authorization | None:
    """Who the token is of; None where it is none of ours, or too old.

    Raises provider.Away where the identity provider does not say with which keys it signs.
    """
    issuer, audience = os.environ.get("ISSUER"), os.environ.get("AUDIENCE")
    if not issuer or not audience:
        return None
    try:
        claims = jwt.decode(
            token,
            keys_of(issuer).get_signing_key_from_jwt(token),
            algorithms=ALGORITHMS,
            issuer=issuer,
            audience=audience,
            # The session is what ends; the token is of its beginning.
            options={"require": ["iat", "email"], "verify_exp": False},
        )
        name, roles = _session(claims)
    except provider.Away:
        raise
    except Exception:  # a text may be no token in more ways than its reader has names for
        return None
    if not roles:
        return None
    _account(name, ADMIN in roles)
    return Authorization("basic", {"username": name, "password": ""})


def _session(claims: dict[str, Any]) -> tuple[str, set[str]]:
    """The name of who signed in, and the roles; raises ValueError for a session that is over, or nobody's."""
    name, groups = claims["email"], claims.get("groups")
    # Programs have accounts too, and nobody signs in as one: their names are no addresses.
    if not isinstance(name, str) or "@" not in name or len(name) > _LONGEST or claims.get("email_verified") is False:
        raise ValueError(name)
    if time.time() - claims["iat"] > SESSION_SECONDS:
        raise ValueError(claims["iat"])
    return name, {str(group) for group in groups if str(group).startswith(GROUP)} if isinstance(groups, list) else set()


def _account(name: str, admin: bool) -> None:
    """Make the account where there is none, and an administrator of it while its person is one."""
    if not store.has_user(name):
        try:
            store.create_user(name, secrets.token_urlsafe(32), is_admin=admin)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # by another request of this person's page
                raise
    if store.get_user(name).is_admin != admin:
        store.update_user(name, is_admin=admin)
