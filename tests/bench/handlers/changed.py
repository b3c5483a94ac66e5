"""The model server with some of its features taken out, so that it is seen what each costs: `changed.py FEATURE…`."""

import sys

import orjson
from prometheus_client import Counter, Histogram

from plumbline.core import ids
from plumbline.serving import main as __main__
from plumbline.serving import server
from plumbline.serving.http import keys, limits
from plumbline.serving.inference import batching, cache, contract, profile, reader


def validation():
    def batch(self, body):
        document = orjson.loads(body)
        if "data" in document:
            return reader.Batch(document["data"], body[1:-1])
        return reader.Batch([tuple(row.values()) for row in document["rows"]])

    contract.Contract.one = lambda self, body: tuple(orjson.loads(body)["features"].values())
    reader.Reader.batch = batch


def key():
    keys.Keyring.find = lambda self, secret: next(iter(self._known.values()))


def rate_limit():
    limits.Limiter.take_now = lambda self: True


def cache_lookup():
    cache.ResponseCache.find = lambda self, key: None


def cache_decision():
    """Not taken out but forced on, against the server's own decision."""
    cache._PAYS_AT, cache._TRUST = 0, 1e9


def metrics_():
    Counter.inc = lambda self, amount=1, exemplar=None: None
    Histogram.observe = lambda self, amount, exemplar=None: None
    profile.Profile.add = lambda self, matrix, outputs: None


def request_id():
    ids.request_id = lambda given: "0" * 24


def prediction_log():
    server.Server.record = lambda *_: None


def inline():
    """Every run in the model's thread with what gathers meanwhile: dynamic batching, against the server's decision."""
    batching.INLINE_SECONDS = 0


FEATURES = {
    "validation": validation,
    "key": key,
    "rate limit": rate_limit,
    "cache look-up": cache_lookup,
    "cache decision": cache_decision,
    "metrics": metrics_,
    "request id": request_id,
    "prediction log": prediction_log,
    "inline": inline,
}

if __name__ == "__main__":
    for name in sys.argv[1:]:
        FEATURES[name]()
    __main__.app([], "changed")
