"""Who gets treatment, for Argo Rollouts: the one place where share and salt of a policy become a route."""

from pathlib import Path

from plumbline.monitoring.experiment.policy import BUCKETS, Experiment

_TEXT = """\
# Written from ../{model}.yaml by `plumbline monitor experiment route --model {model}`: edit that, not this.
# yamllint disable rule:line-length
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
components:
  - ../../../kustomize/model-server/components/experiment
patches:
  - target: {{kind: Rollout}}
    patch: |-
      - op: replace
        path: /spec/strategy/canary/steps/1/setHeaderRoute/match/0/headerValue/regex
        value: {regex}
      - {{op: replace, path: /spec/strategy/canary/steps/0/setCanaryScale/weight, value: {weight}}}
"""


def path(policies: Path, model: str) -> Path:
    """Where it stands."""
    return policies / "experiments" / model / "kustomization.yaml"


def text(policy: Experiment) -> str:
    """The component that a model takes part with."""
    tens = {bucket[0]: "" for bucket in policy.buckets}
    for bucket in policy.buckets:
        tens[bucket[0]] += bucket[1]
    regex = "|".join(f"{ten}[{ones}]" for ten, ones in tens.items())
    return _TEXT.format(model=policy.model, regex=f'"{regex}"', weight=round(policy.share * BUCKETS))
