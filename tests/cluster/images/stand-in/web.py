"""Stands for the server of a chart that can't be had: it answers probes and nothing else."""

import serve

serve.start(3100)
