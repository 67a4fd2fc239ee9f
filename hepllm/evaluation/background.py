"""The minimum of background events that must pass a cut for its SIC to be quoted.

A rule and the size of the background sample give one (effective) number of events, which is printed
with every result.
"""

from __future__ import annotations

import math

from hepllm.config import EvaluationConfig
from hepllm.evaluation.metrics import ROUNDING

OMNILEARN_EPS_B = 1e-4
"""Smallest background efficiency in the code of OmniLearn."""


def required_background(config: EvaluationConfig, n_background: int) -> int:
    """Computes the number of background events that must pass a cut for its SIC to be quoted.

    - ``events``: ``min_background`` events.
    - ``relative_error``: 1 / sqrt(N) of the passing background is at most ``max_relative_error``;
      0.2 requires 25 events, as in the code of LaCATHODE (Hallin et al., arXiv:2210.14924).
    - ``eps_b``: eps_B > ``min_eps_b``; 1e-4 is the cut of the OmniLearn code (Mikuni and Nachman,
      arXiv:2404.16091).
    - ``cathode``: eps_B > 0, one event, as in the code of CATHODE (Hallin et al.,
      arXiv:2109.00546).
    """
    if config.background_rule == "events":
        return config.min_background
    if config.background_rule == "relative_error":
        return math.ceil(config.max_relative_error**-2 * (1 - ROUNDING))
    if config.background_rule == "eps_b":
        return _above(config.min_eps_b, n_background)
    return 1


def required_by_omnilearn(n_background: int) -> int:
    """Computes the number of background events with eps_B > 1e-4, as in the code of OmniLearn."""
    return _above(OMNILEARN_EPS_B, n_background)


def _above(eps_b: float, n_background: int) -> int:
    return math.floor(eps_b * n_background * (1 + ROUNDING)) + 1


def describe_rule(config: EvaluationConfig, n_background: int) -> str:
    """Words the rule, with the number of events that it requires of this sample."""
    required = required_background(config, n_background)
    condition = {
        "events": "",
        "relative_error": f" (relative error of eps_B <= {config.max_relative_error:g})",
        "eps_b": f" (eps_B > {config.min_eps_b:g})",
        "cathode": " (eps_B > 0, as in CATHODE's code)",
    }[config.background_rule]
    return f"N_min = {required} background events{condition}"
