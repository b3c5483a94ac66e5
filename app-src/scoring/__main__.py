"""`python -m scoring` is the command `scoring`."""

from scoring.cli import app

if __name__ == "__main__":
    app(prog_name="scoring")
