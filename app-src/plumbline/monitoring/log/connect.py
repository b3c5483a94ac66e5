"""The database of the log, for commands that read it."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg

from plumbline.core import reach
from plumbline.core.settings import load
from plumbline.monitoring.log.settings import Settings
from plumbline.monitoring.log.store import Store

DATABASE = "MONITORING_DATABASE_URL"


@contextmanager
def opened() -> Iterator[Store]:
    """The store that the settings name; raises Accident where it can't be reached."""
    url = str(load(Settings).database_url)
    reach.postgresql(url, DATABASE)
    with closing(Store(url)) as store:
        yield store


@contextmanager
def connected() -> Iterator[psycopg.Connection[Any]]:
    """One transaction on its tables, which are made or migrated before."""
    with opened() as store:
        store.migrate()
        with store.connection() as connection:
            yield connection
