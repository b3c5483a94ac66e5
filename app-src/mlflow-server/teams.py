"""Make the teams what git says: who is in them, and what they may do with which experiments and models.

{team: {members: [account], experiment: {name: permission}, registered_model: {name: permission}}}. Names may end in *,
which is every one that begins so when this runs. A team that git does not name any more is taken away with its rights.
"""

import secrets
from fnmatch import fnmatchcase
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import RestException
from mlflow.server.auth.client import AuthServiceClient

WORKSPACE, PREFIX = "default", "team-"
Grant = tuple[str, str, str]
"""Kind of resource, its id or name, permission."""


def apply(client: AuthServiceClient, registry: MlflowClient, teams: dict[str, dict[str, Any]]) -> None:
    """Bring every team to what is wished; one that differs is made anew. Raises SystemExit for what is no team."""
    roles = {role.name: role.id for role in client.list_roles(WORKSPACE) if role.name.startswith(PREFIX)}
    wanted = {
        PREFIX + team: (_members(client, team, wished), _grants(registry, wished)) for team, wished in teams.items()
    }
    for name, role in roles.items():
        if (_members_of(client, role), _grants_of(client, role)) != wanted.get(name):
            client.delete_role(role)
        else:
            del wanted[name]
    for name, (members, grants) in wanted.items():
        role = client.create_role(WORKSPACE, name).id
        for grant in sorted(grants):
            client.add_role_permission(role, *grant)
        for member in teams[name.removeprefix(PREFIX)].get("members", []):
            client.assign_role(member, role)
        print(f"{name}: {len(members)} members, {len(grants)} permissions", flush=True)


def _members(client: AuthServiceClient, team: str, wished: dict[str, Any]) -> set[int]:
    if unknown := wished.keys() - {"members", "experiment", "registered_model"}:
        raise SystemExit(f"{team}: {', '.join(sorted(unknown))}: expected members, experiment or registered_model")
    return {_account(client, name) for name in wished.get("members", [])}


def _account(client: AuthServiceClient, name: str) -> int:
    """The id of a member's account; one who never signed in gets one that a password of nobody opens (people.py)."""
    try:
        return int(client.get_user(name).id)
    except RestException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return int(client.create_user(name, secrets.token_urlsafe(32)).id)


def _grants(registry: MlflowClient, wished: dict[str, Any]) -> set[Grant]:
    names = {
        "experiment": {item.name: item.experiment_id for item in registry.search_experiments(max_results=50000)},
        "registered_model": {item.name: item.name for item in registry.search_registered_models(max_results=1000)},
    }
    return {
        (kind, key, permission)
        for kind, known in names.items()
        for pattern, permission in wished.get(kind, {}).items()
        for name, key in known.items()
        if fnmatchcase(name, pattern)
    }


def _members_of(client: AuthServiceClient, role: int) -> set[int]:
    return {item.user_id for item in client.list_role_users(role)}


def _grants_of(client: AuthServiceClient, role: int) -> set[Grant]:
    return {(item.resource_type, item.resource_pattern, item.permission) for item in client.list_role_permissions(role)}
