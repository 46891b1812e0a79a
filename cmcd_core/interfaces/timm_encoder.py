"""Any timm architecture as an Encoder, saved in timm's own folder layout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor

from ..errors import ConfigError
from .encoder import Encoder, Features, write_encoder

DEFAULT_ARCHITECTURE = "resnet10t"
HUB = ("hf-hub", "hf_hub")
OWN_ARGUMENTS = frozenset({"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"})
"""Of ``timm.create_model``: they decide what is read and fetched."""
DEFAULT_MODEL_ARGS: Mapping[str, Any] = {"channels": [16, 32, 64, 256], "stem_width": 8}
"""A slim residual net: learns from a few thousand pairs within a minute on a CPU."""


class TimmEncoder(Encoder):
    """A timm backbone without classifier, behind its own input normalisation.

    Args:
        architecture: Name of a timm model; None is a slim residual net for small data.
        in_chans: Input channels.
        weights: None (random), ``"pretrained"`` (timm's, from the hub), or a .safetensors file with timm's keys.
        mean, std: Input normalisation, ``in_chans`` values each; default: the architecture's own where weights are
            loaded (their average for another number of channels), else 0.5 and 0.25.
        model_args: Passed to ``timm.create_model``; they are saved with the encoder.

    Raises:
        ConfigError: Unknown architecture, argument, or weights that do not fit.
    """

    def __init__(
        self,
        architecture: str | None = None,
        *,
        in_chans: int = 3,
        weights: str | Path | None = None,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        **model_args: Any,
    ) -> None:
        super().__init__()
        _refuse_reaching_out(architecture, weights, model_args)
        if architecture is None:
            architecture, model_args = DEFAULT_ARCHITECTURE, {**DEFAULT_MODEL_ARGS, **model_args}
        self.architecture = architecture
        self.model_args = model_args
        self.channels = in_chans
        self.model: Any  # a timm module: its attributes are typed nowhere
        self.model = self._create(pretrained=weights == "pretrained")
        if (hub := architecture.partition(":"))[0] in HUB:  # saved by what it is, so that nothing is fetched again
            _, self.architecture, given = timm.models.load_model_config_from_hf(hub[2])
            self.model_args = {**(given or {}), **model_args}
        if weights is not None and weights != "pretrained":
            self._load_file(Path(weights))
        own_mean, own_std = self._normalisation(weights is not None)
        self.mean: Tensor
        self.std: Tensor
        for name, values in (("mean", mean or own_mean), ("std", std or own_std)):
            if len(values) != in_chans:
                raise ConfigError(f"{name} has {len(values)} values, but the encoder has {in_chans} channels")
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)
        self.dense_dim = int(self.model.num_features)
        self.dim = int(getattr(self.model, "head_hidden_size", None) or self.dense_dim)
        self._stages = _earlier_stages(self.model)
        self.pyramid_dims = tuple(int(self.model.feature_info[stage]["num_chs"]) for stage in self._stages)

    def forward(self, x: Tensor) -> Features:
        x = (x - self.mean) / self.std
        pyramid: tuple[Tensor, ...] | None = None
        if self._stages:
            maps, stages = self.model.forward_intermediates(x, indices=self._stages, output_fmt="NCHW")
            pyramid = tuple(stages)
        else:
            maps = self.model.forward_features(x)
        return Features(pooled=self.model.forward_head(maps), dense=self._dense(maps), pyramid=pyramid)

    def save(self, folder: str | Path) -> Path:
        """Write the folder that ``timm.create_model("local-dir:FOLDER", pretrained=True, num_classes=0)`` reads."""
        mean, std = self.mean.flatten().tolist(), self.std.flatten().tolist()
        size = self.card.get("size") or 224
        config = {
            "architecture": self.architecture,
            "num_classes": 0,
            "num_features": self.dim,
            "model_args": {**self.model_args, "in_chans": self.channels},
            "pretrained_cfg": {
                **self._entry_points(),
                "input_size": [self.channels, size, size],
                "mean": mean,
                "std": std,
                "interpolation": "bilinear",
                "crop_pct": 1.0,
                "num_classes": 0,
            },
            "cmcd": {**self.card, "arguments": self.arguments, "foreign": False},
        }
        return write_encoder(Path(folder), config, self.model.state_dict())

    @classmethod
    def from_folder(cls, folder: Path, config: Mapping[str, Any] | None = None) -> TimmEncoder:
        """Read back what :meth:`save` wrote, without any plugin."""
        config = config or json.loads((folder / "config.json").read_text(encoding="utf-8"))
        model_args = dict(config.get("model_args") or {})
        model_args.pop("num_classes", None)  # timm's own folders name the classifier that is left out here
        pretrained = config.get("pretrained_cfg") or {}
        channels = int(model_args.pop("in_chans", None) or (pretrained.get("input_size") or [3])[0])
        encoder = cls(
            config["architecture"],
            in_chans=channels,
            weights=folder / "model.safetensors",
            mean=tuple(pretrained.get("mean") or ()) or None,
            std=tuple(pretrained.get("std") or ()) or None,
            **model_args,
        )
        cmcd = dict(config.get("cmcd") or {})
        encoder.arguments = cmcd.pop("arguments", {})
        cmcd.pop("foreign", None)
        encoder.card = cmcd
        return encoder

    def _create(self, pretrained: bool) -> Any:
        try:
            return timm.create_model(
                self.architecture,
                pretrained=pretrained,
                num_classes=0,
                in_chans=self.channels,
                **self.model_args,
            )
        except Exception as error:
            raise self._explained(error, pretrained) from error

    def _explained(self, error: Exception, pretrained: bool) -> ConfigError:
        from difflib import get_close_matches

        name = self.architecture.split(".")[0]
        if name not in timm.list_models():
            near = get_close_matches(name, timm.list_models(), 3)
            hint = f"Did you mean {', '.join(near)}?" if near else "See timm.list_models()."
            return ConfigError(f"{self.architecture!r} is not a timm architecture", hint)
        if pretrained:
            return ConfigError(
                f"timm's pretrained weights of {self.architecture} could not be fetched: {error}",
                "Without a network, pass --teacher a .safetensors file or a folder that timm or cmcd saved.",
            )
        return ConfigError(f"timm cannot build {self.architecture} with {self.model_args}: {error}")

    def _load_file(self, path: Path) -> None:
        """Load timm's keys, classifier or not, and say what does not fit."""
        try:
            state = load_file(path)
        except (OSError, SafetensorError) as error:
            raise ConfigError(
                f"{path}: not a readable .safetensors file: {error}",
                "Weights come as safetensors only; .pt and .pth files can hold code.",
            ) from error
        state = {name.removeprefix("model."): tensor for name, tensor in state.items()}
        classifier = timm.models.get_pretrained_cfg_value(self.architecture, "classifier") or "classifier"
        names = (classifier,) if isinstance(classifier, str) else tuple(classifier)
        own = self.model.state_dict()
        loaded = {
            name: tensor.to(own[name].dtype) if name in own else tensor
            for name, tensor in state.items()
            if name in own or not name.startswith(tuple(f"{n}." for n in names))
        }
        missing = sorted(own.keys() - loaded.keys())
        unknown = sorted(loaded.keys() - own.keys())
        wrong = sorted(n for n in own.keys() & loaded.keys() if own[n].shape != loaded[n].shape)
        if missing or unknown or wrong:
            parts = [
                f"{label} {keys[0]}" + (f" and {len(keys) - 1} more" if len(keys) > 1 else "")
                for label, keys in (("missing", missing), ("unknown", unknown), ("other shape:", wrong))
                if keys
            ]
            raise ConfigError(
                f"{path}: these are not the weights of {self.architecture} with {self.channels} input channels "
                f"({'; '.join(parts)})",
                "Name the architecture they belong to with --teacher-architecture.",
            )
        self.model.load_state_dict(loaded)

    def _normalisation(self, loaded: bool) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The architecture's own mean and std; loaded weights of another channel count get their average."""
        if not loaded:
            return (0.5,) * self.channels, (0.25,) * self.channels
        cfg = timm.models.get_pretrained_cfg(self.architecture, allow_unregistered=True)
        mean = tuple(getattr(cfg, "mean", None) or IMAGENET_DEFAULT_MEAN)
        std = tuple(getattr(cfg, "std", None) or IMAGENET_DEFAULT_STD)
        if len(mean) != self.channels:
            mean, std = (sum(mean) / len(mean),) * self.channels, (sum(std) / len(std),) * self.channels
        return mean, std

    def _entry_points(self) -> dict[str, Any]:
        """Names of the first convolution and classifier, which timm's loader needs."""
        cfg = getattr(self.model, "pretrained_cfg", {})
        return {key: cfg[key] for key in ("first_conv", "classifier", "fixed_input_size") if key in cfg}

    def _dense(self, maps: Tensor) -> Tensor | None:
        """Channels-first map of whatever forward_features returns; None for pooled outputs."""
        if maps.ndim == 3:  # (N, tokens, D) of a transformer
            grid = maps[:, int(getattr(self.model, "num_prefix_tokens", 0)) :]
            side = round(grid.shape[1] ** 0.5)
            if side * side != grid.shape[1]:
                return None
            return grid.transpose(1, 2).reshape(maps.shape[0], -1, side, side)
        if maps.ndim != 4:
            return None
        if maps.shape[1] != self.dense_dim and maps.shape[-1] == self.dense_dim:
            return maps.permute(0, 3, 1, 2)
        return maps


def _refuse_reaching_out(architecture: str | None, weights: str | Path | None, model_args: Mapping[str, Any]) -> None:
    """A folder from anywhere says how its network is built: that must neither fetch anything nor read other weights.

    Raises:
        ConfigError: It would.
    """
    prefix, colon, _ = (architecture or "").partition(":")
    if colon and not (prefix in HUB and weights == "pretrained"):
        raise ConfigError(
            f"{architecture!r} is not a timm architecture: it names another place to read one from",
            "A model of the hub is asked for by --teacher alone.",
        )
    if reaching := sorted(OWN_ARGUMENTS & model_args.keys()):
        raise ConfigError(
            f"model_args.{reaching[0]}: not an argument of an architecture, but of how timm gets its weights",
            "Leave it out; pretrained weights are asked for by --teacher.",
        )


def _earlier_stages(model: Any) -> list[int]:
    """Numbers of the stages that make the pyramid: all from stride 4 on but the last, which is the dense map.

    A transformer of one resolution gives its blocks at a quarter, half and three quarters of its depth.
    """
    infos = list(getattr(model, "feature_info", None) or ())
    if not hasattr(model, "forward_intermediates"):
        return []
    strides = [int(info["reduction"]) for info in infos]
    if len(set(strides)) == 1:
        return sorted({len(infos) * quarter // 4 - 1 for quarter in (1, 2, 3)} - {-1})
    return [number for number, stride in enumerate(strides) if stride >= 4][:-1]
