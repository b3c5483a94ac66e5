"""Make the accounts of programs and the teams of people what git says: who there is, and with which permissions.

Arguments: a YAML file {account: {kind of resource: permission}}, a folder with one file for each account that holds
its password, and a YAML file of teams (teams.py). An account has what the file gives it on all resources of a kind, and
keeps what it owns, because it made it. Run again it changes nothing. The server and its administrator:
MLFLOW_TRACKING_URI, _USERNAME, _PASSWORD.
"""

import sys
from pathlib import Path

import mlflow
import teams
import yaml
from mlflow import MlflowClient
from mlflow.exceptions import RestException
from mlflow.server.auth.client import AuthServiceClient

KINDS = ("experiment", "registered_model")


def apply(client: AuthServiceClient, account: str, password: str, permissions: dict[str, str]) -> None:
    """Bring one account to what is wished."""
    if unknown := permissions.keys() - set(KINDS):
        raise SystemExit(f"{account}: {', '.join(sorted(unknown))}: expected {' or '.join(KINDS)}")
    try:
        client.get_user(account)
    except RestException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        client.create_user(account, password)
    else:
        client.update_user_password(account, password)
    granted = {
        item.resource_type: item.permission
        for role in client.list_user_roles(account)
        for item in role.permissions
        if item.resource_pattern == "*"
    }
    for kind in KINDS:
        wished, is_now = permissions.get(kind), granted.get(kind)
        if is_now and is_now != wished:
            client.revoke_user_permission(account, kind, "*")
        if wished and wished != is_now:
            client.grant_user_permission(account, kind, "*", wished)
    print(f"{account}: {permissions or 'signs in, and no more'}", flush=True)


def main(file: str, passwords: str, people: str) -> None:
    """Bring every account and every team of the files to what is wished."""
    client = AuthServiceClient(mlflow.get_tracking_uri())
    for account, permissions in yaml.safe_load(Path(file).read_text(encoding="utf-8")).items():
        apply(client, account, (Path(passwords) / account).read_text(encoding="utf-8").strip(), permissions)
    teams.apply(client, MlflowClient(), yaml.safe_load(Path(people).read_text(encoding="utf-8")) or {})


if __name__ == "__main__":
    main(*sys.argv[1:])
