"""FedTiny: federated pruning towards tiny neural networks."""

import os
from contextlib import suppress

from fedtiny.cache import cache_folder

# Lightning imports torchvision, and that import makes the folder of PyTorch's compiler though nothing is compiled: in
# the temporary folder if none is named. Where the cache cannot be written that is how it stays.
with suppress(OSError):
    _compiled = cache_folder() / "torchinductor"
    _compiled.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(_compiled))
