"""Lightning's Trainer, one a process, set up once and then handed one client after the other."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from lightning import pytorch as pl
from lightning.pytorch.loops.fetchers import _DataFetcher
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.trainer.states import RunningStage, TrainerFn, TrainerStatus

from fedtiny.client.module import Batch, Classifier
from fedtiny.client.processor import CPU
from fedtiny.data.loaders import Batches

__all__ = ["DeviceTrainer"]


class _Unprofiled(PassThroughProfiler):
    """Measures nothing, as Lightning's own does, but without a generator a hook: a step has a dozen of them."""

    _nothing = nullcontext("")

    def profile(self, action_name: str) -> AbstractContextManager[str]:  # type: ignore[override]
        """Does nothing."""
        return self._nothing


class _Staying(SingleDeviceStrategy):
    """Leaves the module where it is: the client has put it on the device, and holds references to its weights.

    Lightning's own moves it to the CPU after every fit and measurement, and empties CUDA's cache.
    """

    def setup_environment(self) -> None:
        pass

    def teardown(self) -> None:
        self.precision_plugin.teardown()
        self.checkpoint_io.teardown()

    def batch_to_device(self, batch: Batch, device: torch.device | None = None, dataloader_idx: int = 0) -> Batch:
        """The batch, brought to the device; without Lightning's hooks if it is there already."""
        if self.root_device == CPU:
            return batch
        images, labels = batch
        return images.to(self.root_device), labels.to(self.root_device)


class DeviceTrainer(pl.Trainer):
    """A Trainer that takes new data, callbacks and weights without being set up again.

    `Trainer.fit` attaches module, device, logging and signal handlers anew each time. For a client of four small
    steps that takes as long as one of them, and nothing of it has changed since the client before.
    """

    def __init__(self, device: torch.device = CPU) -> None:
        """Makes a silent trainer for one thread of one CPU, or one GPU.

        Args:
            device: Where the module is; batches are brought there.
        """
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "GPU available but not used")  # if so, it was not asked for
            super().__init__(
                accelerator="cpu",  # of which nothing is asked: the strategy knows the device
                strategy=_Staying(device),
                devices=1,
                profiler=_Unprofiled(),
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,
                num_sanity_val_steps=0,
                limit_val_batches=1.0,
                inference_mode=False,  # some questions take gradients where nothing is trained
            )
        self._fitted: Classifier | None = None
        self._fetcher: _DataFetcher | None = None

    @property
    def training(self) -> bool:
        """Whether it fits. Lightning asks sixty times a client, and compares the letters of two names each time."""
        return self.state.stage is RunningStage.TRAINING

    @training.setter
    def training(self, value: bool) -> None:
        if value:
            self.state.stage = RunningStage.TRAINING
        elif self.training:
            self.state.stage = None

    def train(self, module: Classifier, batches: Batches, callbacks: list[pl.Callback]) -> None:
        """Fits the module for as many epochs as its training settings say, with a new optimizer."""
        self.fit_loop.max_epochs = module.training_settings.epochs
        self.fit_loop.epoch_progress.reset()
        self.fit_loop.epoch_loop.batch_progress.reset()
        with self._with(module, callbacks):
            if self._fitted is module:
                self._refit(module, batches)
            else:
                self.fit(module, batches)
                self._fitted, self._fetcher = module, None

    def measure(self, module: Classifier, batches: Batches, callbacks: list[pl.Callback]) -> None:
        """Runs all batches through the module in evaluation mode."""
        with self._with(module, callbacks):
            self.validate(module, batches, verbose=False)

    def _refit(self, module: Classifier, batches: Batches) -> None:
        """What `fit` does, but for what the fit before has left in place."""
        loop = self.fit_loop
        self.state.fn, self.state.status, self.training = TrainerFn.FITTING, TrainerStatus.RUNNING, True
        self._hand_in(batches)
        for callback in self._callbacks:
            callback.setup(self, module, "fit")
        self.strategy.optimizers = [module.configure_optimizers()]
        loop.run()
        self._fetcher = loop._data_fetcher
        loop.teardown()
        self.strategy.optimizers = []
        for callback in self._callbacks:
            callback.teardown(self, module, "fit")
        self.training = False

    def _hand_in(self, batches: Batches) -> None:
        """Puts batches where those of the fit before were: what Lightning counted of so many holds for these too."""
        loop = self.fit_loop
        loader = loop._combined_loader
        if loader is None or self._fetcher is None or len(batches) != loop.max_batches:
            loop._combined_loader, loop._data_source.instance = None, batches
            return
        loader.flattened, loop._data_fetcher = [batches], self._fetcher
        iter(self._fetcher)

    @contextmanager
    def _with(self, module: Classifier, callbacks: list[pl.Callback]) -> Iterator[None]:
        self.callbacks = self._callbacks = callbacks
        try:
            with warnings.catch_warnings():
                # Validation is a call of its own here; and Lightning 2.6 reads a type that torch 2.14 renamed.
                warnings.filterwarnings("ignore", "You defined a `validation_step` but have no")
                warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated")
                yield
        except BaseException as error:
            # Whatever state it was left in, the next fit sets everything up.
            self._fitted = self._fetcher = None
            module.zero_grad()
            for callback in callbacks:
                callback.teardown(self, module, "exception")
            if isinstance(error, SystemExit):  # what Lightning makes of Ctrl-C
                raise KeyboardInterrupt from error
            raise
