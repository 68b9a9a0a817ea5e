"""Models on the Hugging Face Hub: `from_pretrained`, `save_pretrained` and `push_to_hub`, as its users know them."""

from pathlib import Path
from typing import TYPE_CHECKING, cast

from huggingface_hub import PyTorchModelHubMixin, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from ..structures import InputError
from .shipped import ABOUT, CONFIG, INTERVENTIONS, WEIGHTS, available_models

if TYPE_CHECKING:  # which imports this module
    from .mssc import MSSC


class HubMixin(PyTorchModelHubMixin, library_name="mssc", tags=["spatio-temporal-action-detection"]):
    """What `MSSC` needs to be kept on the Hub. The format is that of `mssc.model.checkpoint`, and loading is as strict.

    No licence is put on the card: that of weights depends on what they were trained on, which only who publishes them knows.
    """

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
    ):
        """A model in eval mode, on the CPU. The mixin's own method would fill in what is missing and drop what is unknown.

        Args:
            pretrained_model_name_or_path: of a model that ships, a folder, or "user/model" on the Hub.
            revision: of the Hub's repository.
            cache_dir: where downloads are kept; the Hub's usual place if None.
            force_download: download what is there already.
            local_files_only: do not ask the Hub.
            token: for a private repository.

        Raises:
            InputError: for a model that is nowhere, and see `mssc.model.checkpoint.load_model`.
        """
        from .checkpoint import load_model

        name = str(pretrained_model_name_or_path)
        if name == "default" or name in available_models() or Path(name).is_dir():
            return load_model(name)
        try:
            folder = snapshot_download(
                name,
                revision=revision,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                token=token,
                allow_patterns=[WEIGHTS, CONFIG, ABOUT, INTERVENTIONS],
            )
        except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError) as error:
            reason = str(error).strip().splitlines()[0]
            known = ", ".join(available_models())
            raise InputError(
                f"the model {name!r} is no folder, does not ship ({known}), and cannot be fetched from the Hub: {reason}"
            ) from error
        return load_model(Path(folder))

    def _save_pretrained(self, save_directory: Path) -> None:
        from .checkpoint import save_model

        model = cast("MSSC", self)  # the mixin is no network by itself
        save_model(model, save_directory, {name: model.about[name] for name in ("threshold", "learnt") if name in model.about})
