"""What the evaluation of predicted perturbations is made of. Not public."""

from scmimic.tl.perturbation._scale import TITLES, Emission, PerturbationScale, Preset, import_cell_eval2

__all__ = ["TITLES", "Emission", "PerturbationScale", "Preset", "import_cell_eval2"]
