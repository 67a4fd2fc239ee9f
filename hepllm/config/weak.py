"""Settings of weak supervision."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from hepllm.config.section import (
    Count,
    Positive,
    Probability,
    Section,
    chosen_features,
    setting,
)
from hepllm.schema import FEATURES, FeatureSet, feature_names, is_search_safe

BackgroundTemplate = Literal["sidebands", "density", "simulation", "reweighted", "ideal"]
"""Where the background comes from that data are classified against; see docs/how-to/weak.md."""

WeakClassifier = Literal["boosting", "mlp", "model"]
"""What tells data from the background: boostings, small networks, or language models."""

_Width = Annotated[float, Field(gt=0, le=0.5)]


class WeakConfig(Section):
    """A search without labels: data of a mass region against background; docs/how-to/weak.md."""

    template: BackgroundTemplate = setting(
        "sidebands", "What data are classified against: sidebands as CWoLa (arXiv:1902.02634)"
    )
    background: str | None = setting(
        None, "Dataset of background, for the templates simulation, reweighted and ideal"
    )
    features: FeatureSet | list[str] = setting(
        "search", "Input features, none that follow m_jj: search, extended, cathode, or names"
    )
    classifier: WeakClassifier = setting(
        "boosting",
        "Classifiers that are trained; boosting as in arXiv:2309.13111; model: the language model",
    )
    members: Annotated[int, Field(ge=1, le=200)] = setting(
        10, "Classifiers whose mean scores an event (arXiv:2309.13111: 50); of model it is one"
    )
    folds: Annotated[int, Field(ge=2, le=20)] = setting(
        5, "Parts of the box, each scored by classifiers that were trained on the others"
    )
    validation: Probability = setting(
        0.2, "Share of the events around a fold by which a language model's best weights are chosen"
    )
    region: tuple[Positive, Positive] | None = setting(
        None, "The only signal region; null: regions over the whole mass range", "GeV"
    )
    width: _Width = setting(0.12, "Width of a signal region over its mass, where they are scanned")
    step: _Width = setting(0.06, "Distance of neighbouring signal regions over their mass")
    sideband: _Width = setting(0.06, "Width of each sideband over its mass")
    min_events: Count = setting(
        200, "Fewest events of a signal region and of each of its sidebands; others are left out"
    )
    oversampling: Annotated[int, Field(ge=1, le=20)] = setting(
        4, "Drawn events of the template density for each event of the signal region"
    )

    @field_validator("features", mode="after")
    @classmethod
    def _are_free_of_the_mass(cls, value: FeatureSet | list[str]) -> FeatureSet | list[str]:
        names = feature_names(value) if isinstance(value, str) else value
        following = [name for name in names if not is_search_safe([name])]
        if following:
            raise ValueError(
                f"{following[0]} follows m_jj, which would tell the region from its sidebands and "
                "sculpt a bump; use search, extended or cathode"
            )
        return value

    _expand_features = field_validator("features")(chosen_features)

    @model_validator(mode="after")
    def _region_is_open(self) -> Self:
        if self.region is not None and not self.region[0] < self.region[1]:
            raise ValueError(f"region must be two rising masses, found {list(self.region)}")
        return self

    def feature_names(self) -> tuple[str, ...]:
        """The input features, in the order of the registry."""
        if isinstance(self.features, str):
            return feature_names(self.features)
        own = [name for name in self.features if name not in FEATURES]
        return (*(name for name in FEATURES if name in self.features), *own)

    @property
    def needs_background(self) -> bool:
        """Whether the template is made of another dataset."""
        return self.template in ("simulation", "reweighted", "ideal")
