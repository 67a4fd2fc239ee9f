"""``hepllm inspect``: the content of a dataset as numbers and as a page of pictures."""

from __future__ import annotations

import logging
from pathlib import Path

from hepllm.data.dataset import read_dataset
from hepllm.data.summary import DatasetSummary, summarise, summarise_feature, values_by_class
from hepllm.errors import RunError
from hepllm.files import write_errors
from hepllm.pictures.features import FeatureHistograms, plot_features
from hepllm.schema import feature_of

LOG = logging.getLogger(__name__)

PAGE = "features.png"


def inspect_dataset(folder: Path, *, page: Path | None, split: str | None = None) -> DatasetSummary:
    """Summarises a dataset, or one split of it, and draws distributions to a PNG file ``page``.

    Raises:
        InputError: the dataset or the split does not exist, or the dataset is damaged.
        RunError: the page cannot be written, and is not the one in the dataset itself.
    """
    dataset = read_dataset(folder)
    features, histograms = {}, []
    for name, classes in values_by_class(dataset, dataset.manifest.features, split):
        features[name] = summarise_feature(name, classes)
        if page is not None:
            histograms.append(FeatureHistograms.of(feature_of(name), classes))
    if page is not None:
        title = f"{folder.name}, {split} split" if split else folder.name
        try:
            with write_errors(page, "choose another --page"):
                plot_features(histograms, title, dataset.manifest.counts[split or "all"], page)
        except RunError as error:
            if page != folder / PAGE:
                raise
            LOG.warning("%s", error)  # in a dataset of somebody else's, the tables are what counts
            page = None
    return summarise(dataset, features, None if page is None else str(page))
