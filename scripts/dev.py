"""`make dev`: a platform on this machine that stays up until Ctrl-C, and the environment file that leads to it."""

import argparse
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Mapping

import local
import services

HOME = local.HERE / ".dev"
ENV = HOME / "env"


def main() -> int:
    """Start and stay; what was made is kept for the next start."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clean", action="store_true", help="remove what earlier starts have kept")
    try:
        if parser.parse_args().clean:
            with local.alone(HOME):
                shutil.rmtree(HOME)
            return 0
        # Being told to stop cleans up like Ctrl-C, which a shell without job control lets its background jobs ignore.
        for stop in (signal.SIGINT, signal.SIGTERM):
            signal.signal(stop, signal.default_int_handler)
        print("starting PostgreSQL, Redis and MLflow on loopback", flush=True)
        with local.platform(HOME) as environment:
            stay(script(environment))
    except KeyboardInterrupt:
        print("\nstopped; `make dev` takes it up again, `make dev-clean` removes it")
    except services.ServiceError as error:
        print(f"dev: {error}", file=sys.stderr)
        return 1
    return 0


def script(environment: Mapping[str, str]) -> str:
    """The environment file: what the commands of the documents need, as bash reads it."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    return "\n".join([f'export PATH={shlex.quote(str(local.PLUMBLINE.parent))}:"$PATH"', *lines]) + "\n"


def stay(text: str) -> None:
    """Until Ctrl-C. The file is there for just as long: what it says leads nowhere afterwards."""
    ENV.write_text(text, encoding="utf-8")
    print(f"{text}\nready; in another terminal:\n\n  source {ENV.relative_to(local.HERE)}\n\nCtrl-C stops", flush=True)
    try:
        while True:
            time.sleep(3600)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # impatience must not leave half of it running
        ENV.unlink()


if __name__ == "__main__":
    sys.exit(main())
