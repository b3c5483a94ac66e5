"""Stands for the page of Argo Workflows, which is built with npm: over TLS it answers probes and nothing else."""

import tempfile
from pathlib import Path

import serve

serve.start(2746, *serve.self_signed("localhost", Path(tempfile.gettempdir())))
