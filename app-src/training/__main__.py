"""`python -m training` is the command `training`."""

from training.cli import app

if __name__ == "__main__":
    app(prog_name="training")
