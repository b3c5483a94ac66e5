"""`python -m monitoring` is the command `monitoring`."""

from monitoring.cli import app

if __name__ == "__main__":
    app(prog_name="monitoring")
