"""What a trained model takes from its training cells before it generates: dispersions, spread of codes, margins."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
import torch
from scvi import REGISTRY_KEYS

from scmimic._arrays import log_normalise
from scmimic._progress import progress
from scmimic.cells import LABEL, OPEN, AttributeValues
from scmimic.model.base._vae_module import CellVAEModule
from scmimic.model.generation._sampler import CellSampler
from scmimic.model.generation.calibration._dispersion import match_zeros, pool_dispersion
from scmimic.model.generation.calibration._margins import (
    GeneMargins,
    Histogram,
    MappedRecorder,
    MarginBlocks,
    MarginRecorder,
    histogram,
)
from scmimic.model.generation.calibration._spread import WithinLabelVariance, local_centers
from scmimic.model.generation.codes._composition import Composition
from scmimic.model.generation.codes._mixture import CodeMixture
from scmimic.model.generation.codes._posterior import AggregatedPosterior
from scmimic.model.generation.codes._sources import FittedCodes, PosteriorCodes

logger = logging.getLogger(__name__)

MAX_SPREAD = 1.5
"""Codes are moved apart by half of their distances at most; the most that any data set needed was 1.4."""
MIN_SPREAD_CELLS = 50
COMPARED_CELLS = 20_000
"""Cells that are generated for the comparison of margins; their number bounds the error of the model's."""
LEAST_COMPARED = 500
"""Least number of them in each block."""
GROUP_CELLS = 50
"""Training cells that a combination of label, batch and covariates needs for gene margins of its own."""
MAX_GROUPS = 100
"""The largest groups have margins of their own: each takes generated cells to compare, and room in a saved model."""
# two of dispersions, counts of the margins, spread, margins of labels and of groups
_STEPS = 6

Batches = Callable[[np.ndarray | None], Iterable[dict[str, torch.Tensor]]]
"""Gives the training cells as a data loader does: those of the rows, or all, in their order."""


@dataclass(frozen=True)
class Calibration:
    """What generation takes from the comparison with the training cells, besides dispersions.

    Attributes
    ----------
    posterior
        The training cells, with the spread of their codes.
    codes
        What codes come from.
    margins
        Map to the gene margins of the training cells, of cells from these codes; None: not compared.
    """

    posterior: AggregatedPosterior
    codes: CodeMixture
    margins: GeneMargins | None = None


@torch.inference_mode()
def calibrate(
    module: CellVAEModule,
    posterior: AggregatedPosterior,
    batches: Batches,
    *,
    dispersion: bool,
    spread: bool,
    margins: bool,
    silent: bool = True,
) -> Calibration:
    """Match dispersions, then variance within types, then margins; all of it, or none where it is interrupted.

    Parameters
    ----------
    module
        The trained networks; dispersions are written into it.
    posterior
        The training cells; left as it is.
    batches
        The training cells.
    dispersion, spread, margins
        What to match; likelihoods that are none of counts have nothing to match.
    silent
        Show no progress bar.
    """
    module.eval()
    if not module.is_count:
        return Calibration(posterior, CodeMixture.fit(posterior))
    learned = None if module.px_r is None else module.px_r.clone()
    try:
        with progress(_STEPS, "Calibrating", silent=silent) as advance:
            return match(
                module, posterior, batches, dispersion=dispersion, spread=spread, margins=margins, advance=advance
            )
    except BaseException:
        if module.px_r is not None and learned is not None:
            module.px_r.copy_(learned)
        raise


def match(
    module: CellVAEModule,
    posterior: AggregatedPosterior,
    batches: Batches,
    *,
    dispersion: bool,
    spread: bool,
    margins: bool,
    advance: Callable[[int], object] = lambda n: None,
) -> Calibration:
    """Do the work of :func:`calibrate`, and tell `advance` of each of its steps."""
    if dispersion and module.px_r is not None:
        pool_dispersion(module, batches(None))
        advance(1)
        match_zeros(module, batches(None))
        advance(1)
    observed = None
    if margins:
        blocks = MarginBlocks(len(cells_per_label(module, posterior)), _groups_with_margins(posterior.composition))
        of_cells = blocks.of(posterior.attributes.codes)
        in_blocks = histogram(_in_blocks(counts_and_labels(batches(None)), of_cells), len(blocks), module.n_input)
        observed = in_blocks.gathered(blocks.labels)
        advance(1)
    if spread:
        posterior = match_spread(module, posterior, batches, observed)
        advance(1)
    codes = CodeMixture.fit(posterior)
    if observed is None:
        return Calibration(posterior, codes)
    seed = int(torch.randint(2**31 - 1, ()))
    by_label = compare_margins(module, posterior, observed, seed, codes)
    advance(1)
    if not len(blocks.groups):
        return Calibration(posterior, codes, by_label)
    of_groups = in_blocks.gathered(blocks.positions)
    return Calibration(
        posterior, codes, with_group_margins(by_label, module, posterior, blocks.groups, of_groups, seed, codes)
    )


def match_spread(
    module: CellVAEModule,
    posterior: AggregatedPosterior,
    batches: Batches,
    observed: Histogram | None,
    max_cells: int = 5_000,
) -> AggregatedPosterior:
    """Move codes apart until generated cells vary within types as the training cells do, but for their error.

    The ratio of variances at the largest spread and at none are taken for a line. With margins, it is that of cells
    whose margins are matched at that spread. Cells are those of the training cells' posteriors, one from each.

    Parameters
    ----------
    module
        The trained networks.
    posterior
        The training cells, without a spread.
    batches
        The training cells.
    observed
        Counts of the training cells for the margins; None: there are none.
    max_cells
        Training cells to look at.
    """
    rng = np.random.default_rng(int(torch.randint(2**31 - 1, ())))
    cells = np.sort(rng.permutation(len(posterior))[:max_cells])
    if len(cells) < MIN_SPREAD_CELLS:
        return posterior
    x = log_normalise(sp.vstack([x for x, _ in counts_and_labels(batches(cells))]))
    variance = WithinLabelVariance(x, posterior.labels[cells], rng)
    if not variance.is_known:
        return posterior

    def ratio(of: AggregatedPosterior) -> float:
        margins = None
        if observed is not None:
            margins = compare_margins(module, of, observed, int(rng.integers(2**31)))
        seed = int(rng.integers(2**31))
        sampler = CellSampler(module, PosteriorCodes(of), seed=seed, posterior=of, margins=margins)
        return variance.ratio(log_normalise(sp.vstack([chunk.x for chunk in sampler.resample(cells)])))

    target, unspread = 1 - variance.error, ratio(posterior)
    if unspread >= target:
        return posterior
    center = local_centers(posterior.mean, posterior.labels)
    slope = (ratio(replace(posterior, center=center, spread=MAX_SPREAD)) - unspread) / (MAX_SPREAD - 1)
    if slope <= 0:
        return posterior
    spread = min(1 + (target - unspread) / slope, MAX_SPREAD)
    logger.info(
        "Cells varied within types %.1f %% less than the training cells; their codes are moved apart by %.0f %%.",
        100 * (1 - unspread),
        100 * (spread - 1),
    )
    return replace(posterior, center=center, spread=spread)


def compare_margins(
    module: CellVAEModule,
    posterior: AggregatedPosterior,
    observed: Histogram,
    seed: int,
    codes: CodeMixture | None = None,
    n_cells: int = COMPARED_CELLS,
    min_cells: int = LEAST_COMPARED,
) -> GeneMargins:
    """Compare the distribution of each gene in generated and training cells of each label.

    Parameters
    ----------
    module, posterior
        The trained networks, and the training cells.
    observed
        Counts of the training cells.
    seed
        Seed of the generated ones.
    codes
        What they come from; None: the posteriors of the training cells.
    n_cells
        Cells to generate for it, over all labels; their number bounds the error of the model's distributions.
    min_cells
        Least number per label.
    """
    present = cells_per_label(module, posterior)
    labels = np.full((len(present), posterior.attributes.codes.shape[1]), OPEN)
    labels[:, LABEL] = np.arange(len(present))
    wanted = _shares(present, n_cells, min_cells)
    recorder = MarginRecorder(MarginBlocks(len(present)), module.n_input)
    _record(recorder, module, posterior, np.repeat(labels, wanted, axis=0), seed, codes)
    return GeneMargins(recorder, observed)


def with_group_margins(
    by_label: GeneMargins,
    module: CellVAEModule,
    posterior: AggregatedPosterior,
    groups: np.ndarray,
    observed: Histogram,
    seed: int,
    codes: CodeMixture,
) -> GeneMargins:
    """Add maps for combinations of label, batch and covariates.

    Parameters
    ----------
    by_label
        The map of the labels.
    module, posterior, seed, codes
        As :func:`compare_margins`.
    groups
        The combinations, ``(n_groups, n_codes)``.
    observed
        Counts of their training cells.
    """
    recorder = MappedRecorder(MarginBlocks(0, groups), by_label)
    asked = np.repeat(groups, _shares(observed.n_cells), axis=0)
    _record(recorder, module, posterior, asked, seed, codes)
    return by_label.joined(GeneMargins(recorder, observed))


def _groups_with_margins(composition: Composition) -> np.ndarray:
    """Combinations with many cells, of labels that have more than one."""
    labels, n_groups = np.unique(composition.codes[:, LABEL], return_counts=True)
    several = np.isin(composition.codes[:, LABEL], labels[n_groups > 1])
    large = np.flatnonzero(several & (composition.n_cells >= GROUP_CELLS))
    largest = large[np.argsort(-composition.n_cells[large], kind="stable")][:MAX_GROUPS]
    return composition.codes[np.sort(largest)]


def _in_blocks(
    batches: Iterable[tuple[sp.csr_matrix, np.ndarray]], blocks: np.ndarray
) -> Iterator[tuple[sp.csr_matrix, np.ndarray]]:
    """Counts of cells, batch by batch, with the blocks of these in place of their labels."""
    start = 0
    for x, labels in batches:
        yield x, blocks[start : start + len(labels)]
        start += len(labels)


def _shares(present: np.ndarray, n_cells: int = COMPARED_CELLS, min_cells: int = LEAST_COMPARED) -> list[int]:
    """Cells to generate of each block."""
    return [max(min_cells, round(n_cells * n / present.sum())) if n else 0 for n in present]


def _record(
    recorder: MarginRecorder,
    module: CellVAEModule,
    posterior: AggregatedPosterior,
    asked: np.ndarray,
    seed: int,
    codes: CodeMixture | None,
) -> None:
    """Show the recorder generated cells of these combinations."""
    numbers = np.full((len(asked), posterior.attributes.numbers.shape[1]), np.nan)
    source = PosteriorCodes(posterior) if codes is None else FittedCodes(posterior.composition, codes)
    sampler = CellSampler(module, source, seed=seed, margins=recorder)
    for _ in sampler.run(AttributeValues(asked, numbers), shuffle=False):
        pass


def cells_per_label(module: CellVAEModule, posterior: AggregatedPosterior) -> np.ndarray:
    """Number of training cells of each label code."""
    return np.bincount(posterior.labels, minlength=module.n_labels)


def counts_and_labels(batches: Iterable[dict[str, torch.Tensor]]) -> Iterator[tuple[sp.csr_matrix, np.ndarray]]:
    """Counts and label codes of cells, block by block."""
    for tensors in batches:
        labels = tensors[REGISTRY_KEYS.LABELS_KEY].squeeze(-1).cpu().numpy().astype(np.int64)
        yield sp.csr_matrix(tensors[REGISTRY_KEYS.X_KEY].cpu().numpy()), labels
