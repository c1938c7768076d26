"""FedDST: every client moves its own mask now and then, and the server makes one of theirs.

Bibikar, Vikalo, Wang and Chen, "Federated Dynamic Sparse Training: Computing Less, Communicating Less, Yet Learning
Better", AAAI 2022.

1. The first mask is by magnitude, its layer densities those of ERK (Evci et al., ICML 2020).
2. Every `adjust_every` rounds up to `stop_round` each client trains, drops in every layer the
   k = alpha_r n_l kept weights of smallest magnitude, grows the k pruned ones of largest |dL/dw| in its last step, and
   trains `fine_tune_epochs` more under its own mask m_k; alpha_r = fraction (1 + cos(pi r / stop_round)).
3. Weights and mask go up. theta_j = sum_k n_k m_kj theta_kj / sum_k n_k m_kj: the mean over those that keep weight j.
   The union of the masks is pruned by magnitude to n_l weights in each layer again.

Otherwise than the paper and its code: magnitudes are those of the pretrained network, as for all methods here; the
schedule is FedTiny's by default (the paper's is alpha = 0.01, so fraction = 0.005, every 10 to 20 rounds, up to half of
them); the mask moves in every adjusting round, a set number of epochs before the end, and not when a client's own
count of epochs says so; the optimizer starts anew when the mask has moved, so that no dropped weight leaves a momentum;
of weights of equal magnitude those that more examples kept stay. Better than public codes: alpha decays once, not
twice; means are over owners; masks move after training, not before. A client holds the k largest gradients of a
layer and not its dense gradient, which gives the same masks to the bit.
"""

from typing import Literal

from fedtiny.methods.readjusting import Readjusting
from fedtiny.sparse.schedule import adjustment

__all__ = ["FedDST"]


class FedDST(Readjusting):
    """Clients move their own masks; the server prunes their union (Bibikar et al., AAAI 2022)."""

    name: Literal["feddst"] = "feddst"

    def rests(self, round: int) -> bool:
        return self.fraction == 0 or adjustment(round, self.adjust_every, self.stop_round) is None
