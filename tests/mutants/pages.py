"""The page of mutants: what the mutants are and what must stop each, from the lists that the tests run."""

from mutants import tampered, trained
from mutants.admitted import SENT
from mutants.catalogue import ADMISSION

HEAD = """# Mutants

Known-bad releases, made of the shipped models, each sent through the real path: a run in MLflow, judge, registration,
a release store behind an S3 API, gate, approval, the audit of a pull request, a started server, and the admission rules
of production on a real API server. `make mutants` brings them in and writes this page only where every one was stopped,
and in the words of the rule that is named here. The shipped models pass all of it first, and one of them again in
another file. What MLflow itself refuses to which user is tried with three of them by `tests/integration/workloads`.
What no rule can find stands in [trust](trust.md#what-stays-open).

| | mutant | stopped at | by |
| --- | --- | --- | --- |
"""


def page() -> str:
    """The whole text."""
    made = [(one.name, one.at, one.by) for one in (*trained.MUTANTS, *tampered.MUTANTS)]
    made += [(one.name, ADMISSION, f"`{one.policy}`") for one in SENT]
    return HEAD + "".join(f"| {number} | {' | '.join(row)} |\n" for number, row in enumerate(made, start=1))


if __name__ == "__main__":
    print(page(), end="")
