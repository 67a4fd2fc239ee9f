"""The explanation of the score of one event, as JSON and as a paragraph.

Fixed rules build the paragraph from the numbers; no language model writes it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any

from hepllm.evaluation.metrics import Threshold
from hepllm.explain.attribution import Attribution, FeatureAttribution
from hepllm.explain.counterfactual import Change, Counterfactual, Counterfactuals
from hepllm.explain.standing import Standing
from hepllm.schema import feature_of

_NAMED = 3
"""Number of features that the paragraph names on each side."""

_LEAST_SHARE = 0.02
"""Share of all attributions below which a feature is not named."""


@dataclass(frozen=True)
class FeatureFacts:
    """One feature of an event.

    Attributes:
        value: value of the event; NaN where missing.
        reference: value of the reference event.
        signal: place of the value among the signal of the training split.
        background: place of the value among the background.
    """

    value: float
    reference: float
    signal: Standing
    background: Standing


@dataclass(frozen=True)
class Explanation:
    """Reasons for the score of an event.

    Attributes:
        event: title of the event.
        score: logit of signal.
        probability: probability of signal.
        prior: assumption of the probability.
        threshold: threshold of the decision, with its rule.
        attribution: attribution of the score to the features.
        facts: facts by name of the feature.
        counterfactuals: smallest changes of the decision; None where there is no threshold.
        notes: further sentences for the reader.
        label: 1, 0, or -1 where unknown.
        hypothesis: text under which the event was scored; None where nothing was stated.
        elsewhere: its scores under other hypotheses, by what these state.
    """

    event: str
    score: float
    probability: float
    prior: str
    threshold: Threshold
    attribution: Attribution
    facts: Mapping[str, FeatureFacts]
    counterfactuals: Counterfactuals | None
    notes: tuple[str, ...]
    label: int
    hypothesis: str | None = None
    elsewhere: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return describe(self)

    @property
    def called(self) -> str | None:
        """Class of the event by the threshold."""
        if self.threshold.value is None:
            return None
        return "signal" if self.score >= self.threshold.value else "background"

    @property
    def ranked(self) -> list[FeatureAttribution]:
        """Attributions, the largest first."""
        return sorted(self.attribution.features, key=lambda one: -abs(one.total))


def explanation_tree(explanation: Explanation) -> dict[str, Any]:
    """Returns the content of ``explanation.json``, in which a missing number is null."""
    found, facts, whatif = explanation.attribution, explanation.facts, explanation.counterfactuals
    return {
        "event": explanation.event,
        "label": explanation.label,
        "hypothesis": explanation.hypothesis,
        "score": explanation.score,
        "score_elsewhere": dict(explanation.elsewhere),
        "probability": explanation.probability,
        "probability_prior": explanation.prior,
        "threshold": explanation.threshold.value,
        "threshold_chosen_by": explanation.threshold.chosen_by,
        "called": explanation.called,
        "attribution": {
            "method": "integrated gradients",
            "reference": "median background event of the training split",
            "reference_score": found.reference_score,
            "difference": found.difference,
            "sum": found.total,
            "gap": found.gap,
            "tolerance": found.tolerance,
            "complete": found.is_complete,
            "n_steps": found.n_steps,
            "text_not_compared": list(found.unaligned),
            "numbers": sum(one.number for one in found.features),
            "text": sum(token.value for token in found.tokens),
            "particles": found.particles,
            "tokens": [asdict(token) for token in found.tokens],
        },
        "features": {
            one.name: {
                "value": _number(facts[one.name].value),
                "reference": _number(facts[one.name].reference),
                "unit": feature_of(one.name).unit,
                "attribution": one.total,
                "attribution_number": one.number,
                "attribution_text": one.text,
                "percentile": {
                    name: asdict(getattr(facts[one.name], name))
                    for name in ("signal", "background")
                },
            }
            for one in explanation.ranked
        },
        "counterfactual": None if whatif is None else asdict(whatif),
        "notes": list(explanation.notes),
        "text": describe(explanation),
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def describe(explanation: Explanation) -> str:
    """Explains the score in one paragraph, built from the numbers."""
    given = (_verdict, _other_hypotheses, _reasons, _what_if, _reliability)
    parts = [part(explanation) for part in given]
    return " ".join([*chain.from_iterable(parts), *explanation.notes])


def _verdict(explanation: Explanation) -> list[str]:
    text = (
        f"{explanation.event} has a score of {explanation.score:+.2f}, a probability of signal of "
        f"{explanation.probability:.3g} (prior: {explanation.prior})."
    )
    if explanation.threshold.value is None:
        return [text, f"There is no cut: {explanation.threshold.reason}."]
    side = "above" if explanation.called == "signal" else "below"
    cut = (
        f"That is {side} the cut of {explanation.threshold.value:+.2f} "
        f"({explanation.threshold.chosen_by}), so it is called {explanation.called}"
    )
    truth = {1: "signal", 0: "background"}.get(explanation.label)
    return [text, f"{cut}; its label says {truth}." if truth else f"{cut}."]


def _other_hypotheses(explanation: Explanation) -> list[str]:
    sentences = []
    if explanation.hypothesis is not None:
        sentences.append(f"It was scored under the hypothesis '{explanation.hypothesis}'.")
    scores = [f"{score:+.2f} {what}" for what, score in explanation.elsewhere.items()]
    if scores:
        sentences.append(f"Its score would be {' and '.join(scores)}.")
    return sentences


def _reasons(explanation: Explanation) -> list[str]:
    found = explanation.attribution
    start = f"The median background event of the training split has {found.reference_score:+.2f};"
    sentences = [f"{start} the features share the difference of {found.difference:+.2f}."]
    size = sum(abs(one.total) for one in found.features)
    named = [one for one in explanation.ranked if abs(one.total) > max(_LEAST_SHARE * size, 0.005)]
    for title, sign in (("Towards signal", 1), ("Towards background", -1)):
        chosen = [one for one in named if one.total * sign > 0][:_NAMED]
        if chosen:
            shown = "; ".join(_reason(one, explanation.facts[one.name]) for one in chosen)
            sentences.append(f"{title}: {shown}.")
    numbers = sum(one.number for one in found.features)
    text = sum(token.value for token in found.tokens)
    if numbers and text:
        sentences.append(
            f"The numbers of the adapter contribute {numbers:+.2f}, the text {text:+.2f}."
        )
    if found.particles is not None:
        sentences.append(
            f"The constituents of both jets contribute {found.particles:+.2f}, compared with the "
            "mean soft tokens of background events."
        )
    return sentences


def _reason(one: FeatureAttribution, facts: FeatureFacts) -> str:
    shown = f"{one.name} {one.total:+.2f}, with the value {show(one.name, facts.value)}"
    if facts.signal.percentile is None or facts.background.percentile is None:
        return f"{shown}, where the median background event has {show(one.name, facts.reference)}"
    return (
        f"{shown}, above {facts.background.percentile:.0f} % of the background and "
        f"{facts.signal.percentile:.0f} % of the signal"
    )


def _what_if(explanation: Explanation) -> list[str]:
    found = explanation.counterfactuals
    if found is None:
        return []
    other = "background" if explanation.called == "signal" else "signal"
    if found.single is None and found.several is None:
        text = "No change of up to three features within the values of the training events"
        return [f"{text} would make it {other}."]
    sentences = []
    if found.single is not None:
        sentences.append(f"It would be called {other} if {_changes(found.single)} alone.")
    else:
        sentences.append(
            f"No feature alone makes it {other} within the values of the training events."
        )
    if found.several is not None:
        start = "A smaller change of several together" if found.single else "Several together do"
        sentences.append(f"{start}: {_changes(found.several)}.")
    return sentences


def _changes(found: Counterfactual) -> str:
    shown = ", ".join(map(_change, found.changes))
    length = f"{found.distance:.2g} standard deviations"
    return f"{shown} ({length}, score {found.score:+.2f})"


def _change(change: Change) -> str:
    before, after = show(change.name, change.before), show(change.name, change.after)
    if before == after:  # the change is smaller than the printed digits
        before, after = f"{change.before:.6g}", f"{change.after:.6g}"
    return f"{change.name} went from {before} to {after}"


def _reliability(explanation: Explanation) -> list[str]:
    found = explanation.attribution
    sentences = []
    if not found.is_complete:
        sentences.append(
            f"Caution: the attributions sum to {found.total:+.2f}, not to {found.difference:+.2f}; "
            f"the gap exceeds the tolerance of {found.tolerance:.2f}."
        )
    if found.unaligned:
        sentences.append(
            f"The text of {', '.join(found.unaligned)} cannot be compared with that of the median "
            "event, so only the number contributes."
        )
    return sentences


def show(name: str, value: float) -> str:
    """Formats a value with its unit and the digits that its resolution supports."""
    if math.isnan(value):
        return "missing"
    feature = feature_of(name)
    return f"{value:.{feature.decimals}f} {feature.unit}".rstrip()
