"""Configuration: frozen models, one YAML file for all stages, overrides from the command line.

All defaults are in this package. A stage receives its section and writes the whole resolved
configuration beside its output, where later stages read it.
"""

from hepllm.config.audit import AuditConfig
from hepllm.config.cartography import (
    ByMapConfig,
    CartographyConfig,
    Category,
    FilterRule,
    TableRule,
)
from hepllm.config.clusters import ClustersConfig
from hepllm.config.evaluation import EvaluationConfig, ScoringConfig, SearchConfig
from hepllm.config.experiment import Config
from hepllm.config.files import (
    changed_settings,
    config_from_tree,
    dump_config,
    load_config,
    override_config,
    settings_by_path,
)
from hepllm.config.flags import FlagsConfig
from hepllm.config.labelling import (
    CoherenceConfig,
    HypothesesConfig,
    LabelConfig,
    LabelMethod,
    ServerConfig,
    SoftLabelConfig,
)
from hepllm.config.learning import (
    BackboneConfig,
    ExamplesConfig,
    FusionConfig,
    HypothesisConfig,
    LossConfig,
    ParticlesConfig,
    PromptConfig,
    Representation,
    Schedule,
    TrainConfig,
)
from hepllm.config.physics import (
    DetectorConfig,
    GridConfig,
    JetsConfig,
    PreprocessConfig,
    SignalConfig,
    SimulateConfig,
    SoftDropConfig,
    SplitConfig,
)
from hepllm.config.unlabelled import SelfTrainingConfig, UnsupervisedConfig

__all__ = [
    "AuditConfig",
    "BackboneConfig",
    "ByMapConfig",
    "CartographyConfig",
    "Category",
    "ClustersConfig",
    "CoherenceConfig",
    "Config",
    "DetectorConfig",
    "EvaluationConfig",
    "ExamplesConfig",
    "FilterRule",
    "FlagsConfig",
    "FusionConfig",
    "GridConfig",
    "HypothesesConfig",
    "HypothesisConfig",
    "JetsConfig",
    "LabelConfig",
    "LabelMethod",
    "LossConfig",
    "ParticlesConfig",
    "PreprocessConfig",
    "PromptConfig",
    "Representation",
    "Schedule",
    "ScoringConfig",
    "SearchConfig",
    "SelfTrainingConfig",
    "ServerConfig",
    "SignalConfig",
    "SimulateConfig",
    "SoftDropConfig",
    "SoftLabelConfig",
    "SplitConfig",
    "TableRule",
    "TrainConfig",
    "UnsupervisedConfig",
    "changed_settings",
    "config_from_tree",
    "dump_config",
    "load_config",
    "override_config",
    "settings_by_path",
]
