"""Which latents a model uses, and which have vanished."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd

from scmimic import _keys

logger = logging.getLogger(__name__)

ACTIVE_VARIANCE = 0.01


class LatentActivityMixin:
    """:meth:`latent_activity`."""

    def latent_activity(self) -> pd.DataFrame:
        """How much every latent tells of the training cells.

        A VAE leaves latents that it does not need at their prior: their posterior is N(0, 1) for every cell, they carry
        nothing, and the decoder ignores them. Such a latent has vanished.

        Returns
        -------
        DataFrame, one row per latent (``Z1``, ``Z2``, ...), with

        ``variance``
            Of the posterior means over cells.
        ``kl``
            Mean KL of the posteriors from N(0, 1), in nats.
        ``active``
            Whether the variance is above 0.01 (Burda et al. 2015, section 5).

        Raises
        ------
        RuntimeError
            If the model is not trained.
        """
        self._check_can_generate()
        mean, variance = self.posterior_.mean.astype(float), self.posterior_.std.astype(float) ** 2
        spread = mean.var(axis=0)
        return pd.DataFrame(
            {
                "variance": spread,
                "kl": 0.5 * (mean**2 + variance - 1 - np.log(variance)).mean(axis=0),
                "active": spread > ACTIVE_VARIANCE,
            },
            index=_keys.latent_names(mean.shape[1]),
        )

    def _report_vanished_latents(self) -> None:
        activity = self.latent_activity()
        vanished = activity.index[~activity["active"]].tolist()
        if vanished:
            logger.warning("%d of %d latents have vanished: %s.", len(vanished), len(activity), ", ".join(vanished))
