"""`python -m backup` is the command `backup`."""

from backup.cli import app

if __name__ == "__main__":
    app(prog_name="backup")
