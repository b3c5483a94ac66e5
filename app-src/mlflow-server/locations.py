"""Sign-in, and beside it a rule that MLflow has no setting for: nobody says where an experiment's artifacts lie.

The server reads and writes artifacts with its own credentials, for everybody. Who may name the place reads every bucket
that the server reads, and writes where others believe what they find.
"""

import people
import provider
from flask import g
from mlflow.protos.service_pb2 import CreateExperiment

# Flask's own, as MLflow has them.
from mlflow.server.auth import (  # type: ignore[attr-defined]
    Authorization,
    Response,
    authenticate_request_basic_auth,
    request,
)
from mlflow.server.handlers import _get_request_message

CREATE = "/mlflow/experiments/create"


def authenticate() -> Authorization | Response:
    """Who asks, as a token of the door or basic authentication says; a refusal where an experiment names its place.

    MLflow asks several times in a request, and is answered by what was found out at first.
    """
    if "caller" not in g:
        g.caller = _authenticate()
    caller: Authorization | Response = g.caller
    return caller


def _authenticate() -> Authorization | Response:
    given = request.authorization
    if given is not None and given.type == "bearer":
        try:
            signed_in = people.person(given.token or "") or Response("the token is of nobody who may ask\n", status=401)
        except provider.Away:
            reason = "the identity provider does not say whose the token is; try again\n"
            return Response(reason, status=503, headers={"Retry-After": str(provider.AGAIN_SECONDS)})
    else:
        signed_in = authenticate_request_basic_auth()
    if isinstance(signed_in, Response) or request.url_rule is None or not request.url_rule.rule.endswith(CREATE):
        return signed_in
    # As the server itself reads it: the body may say it in more than one way.
    if _get_request_message(CreateExperiment()).artifact_location:  # type: ignore[no-untyped-call]
        reason = "artifact_location: expected none; the server chooses where an experiment's artifacts lie\n"
        return Response(reason, status=403, mimetype="text/plain")
    return signed_in
