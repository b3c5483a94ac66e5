"""The hyperparameter search: trials that are the same however they are spread over processes or pods."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from plumbline.core.metrics.figures import build
from plumbline.core.schema import ModelSchema
from plumbline.training import convert, learn, tracking
from plumbline.training.model import Examples, Model, ModelError, Params, own_code
from plumbline.training.prepare import examples
from plumbline.training.report import OBJECTIVE
from plumbline.training.work import Work, WorkError

log = logging.getLogger(__name__)


class Trial(BaseModel):
    """A finished trial: `trials/<number>.json`, and `best.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    number: int
    params: dict[str, Any]
    value: float
    run: str


_TRIALS = TypeAdapter(list[Trial])


def suggested(model: Model, trials: int, seed: int) -> list[Params]:
    """All trials' parameters; trial 0 is the model's defaults.

    Sampled up front by Optuna's seeded random sampler: an adaptive sampler's trials depend on which finished first,
    so that a search fanned out over pods could never be repeated. For a dozen trials random search loses little
    (Bergstra and Bengio 2012).
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    with own_code("space()"):
        drawn = [model.space(study.ask()) for _ in range(trials - 1)]
    _require_plain(model.defaults, "defaults")
    for params in drawn:
        _require_plain(params, "space()")
    return [model.defaults, *drawn]


def _require_plain(params: Any, where: str) -> None:
    """Raise ModelError for what a trial's file could not hold."""
    if not isinstance(params, dict):
        raise ModelError(f"{where}: found {params!r:.80}, expected a dict of parameters")
    for name, value in params.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            found = f"{value!r:.60} ({type(value).__name__})"
            raise ModelError(f"{where}: {name} is {found}, expected what JSON holds, such as int or str") from error


def search(work: Work, part: int = 0, parts: int = 1) -> int:
    """Run this part's trials (those with number % parts == part), skipping what is there; returns how many ran."""
    settings = work.settings
    if not 0 <= part < parts:
        raise WorkError(f"part: {part} is not among {parts} parts, expected 0 to {parts - 1}")
    mine = [
        (number, params)
        for number, params in enumerate(suggested(work.model, settings.trials, settings.seed))
        if number % parts == part and not _path(work, number).exists()
    ]
    if mine:
        schema = work.read(work.schema, ModelSchema)
        train, validation = examples(work, "train"), examples(work, "validation")
        difference = convert.rehearse(work.model, schema, train, validation)
        log.info("rehearsal on %d rows: ONNX differs from the native model by %.1e", convert.REHEARSED_ROWS, difference)
        with tracking.autologging():
            for number, params in mine:
                trial = _run(work, number, params, schema, train, validation)
                log.info("trial %d of %d: %s %.5f", number, settings.trials, OBJECTIVE[schema.output.task], trial.value)
    return len(mine)


def _run(work: Work, number: int, params: Params, schema: ModelSchema, train: Examples, validation: Examples) -> Trial:
    with own_code("candidate()"):
        estimator = work.model.candidate(schema, params)
    with tracking.child(work, f"trial-{number}", {"trial": str(number)}) as run:
        tracking.log_params(params)
        with own_code(f"trial {number}, {convert.kind(estimator)} with {params}"):
            learn.fit(estimator, train, validation, schema.output)
        outputs = learn.outputs_of(estimator, validation.inputs, schema.output)
        name = OBJECTIVE[schema.output.task]
        judged = build(schema.output, validation.target, outputs, None)
        value = judged[name](np.ones(len(outputs)))
        tracking.log_metrics({f"validation_{name}": value})
    trial = Trial(number=number, params=params, value=value, run=run)
    work.write(_path(work, number), trial)
    return trial


def accept(work: Work, file: Path) -> None:
    """Take over the trials that pods ran, a JSON list as a Workflow gathers it from them."""
    try:
        trials = _TRIALS.validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        wanted = "a list of trials as `plumbline train search` writes them"
        raise WorkError(f"{file}: expected {wanted}: {error}") from error
    for trial in trials:
        work.write(_path(work, trial.number), trial)


def choose(work: Work) -> Trial:
    """The best of all trials, written to best.json; raises WorkError that names the trials that are missing."""
    numbers = range(work.settings.trials)
    if missing := [number for number in numbers if not _path(work, number).exists()]:
        raise WorkError(f"{work.trials}: the trials {missing} are missing; run `plumbline train search` for them first")
    trials = [work.read(_path(work, number), Trial) for number in numbers]
    best = min(trials, key=lambda trial: (trial.value, trial.number))
    work.write(work.best, best)
    return best


def _path(work: Work, number: int) -> Path:
    return work.trials / f"{number}.json"
