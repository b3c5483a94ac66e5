"""Stands for Grafana, whose page is built with npm: it answers probes and nothing else."""

import serve

serve.start(3000)
