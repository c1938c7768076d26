"""FedTiny: federated pruning towards tiny neural networks."""

import os
from contextlib import suppress

from fedtiny.cache import cache_folder

# Lightning imports torchvision, and that import makes the folder of PyTorch's compiler though nothing is compiled: in
# the temporary folder if none is named. Where the cache cannot be written that is how it stays.
# Nor is there a home folder for every user (RuntimeError).
if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
    with suppress(OSError, RuntimeError):
        _compiled = (cache_folder() / "torchinductor").absolute()
        _compiled.mkdir(parents=True, exist_ok=True)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(_compiled)
