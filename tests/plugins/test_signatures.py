"""What a module of an unknown class takes is found in its signature and its first convolution."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from made_checkpoints import ffdnet_state
from made_models import noisy

torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch")

from benchbox_adapters.recogniser import recognise  # noqa: E402
from benchbox_adapters.torch_model import Torch  # noqa: E402
from torch import nn  # noqa: E402


class Adds(nn.Module):  # type: ignore[misc]
    """Puts the level behind the channels itself, as deepinv's DRUNet does, and denoises as FFDNet."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels + 1, channels, 1, bias=False)
        state = ffdnet_state()
        self.inner = recognise(state)[0].load(state)

    def forward(self, x: Any, sigma: Any) -> Any:
        levels = sigma.reshape(-1, 1, 1, 1).expand(len(x), 1, *x.shape[2:])
        assert self.first(torch.cat((x, levels), 1)).shape == x.shape
        noise = self.inner(x.flatten(0, 1)[:, None], levels[:, 0, 0, 0].repeat_interleave(x.shape[1]))
        return x - noise.reshape(x.shape)


@pytest.mark.parametrize(
    ("channels", "wrap"),
    [(1, lambda network: network), pytest.param(3, nn.DataParallel, marks=pytest.mark.slow)],
    ids=["bare", "DataParallel"],
)
def test_a_module_that_puts_the_level_behind_the_channels_itself(channels: int, wrap: Any) -> None:
    denoiser = Torch.adopt(wrap(Adds(channels)))
    assert denoiser is not None
    assert denoiser.capabilities.sigma == "required"
    assert denoiser.capabilities.channels == ("any" if channels == 3 else "grey")
    images = noisy() if channels == 1 else np.stack([noisy()] * 3, axis=3)
    denoiser.setup(images.shape)
    level = np.full(len(images), 0.1, np.float32)
    x = torch.from_numpy(images.reshape(*images.shape[:3], channels)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = Adds(channels)(x, torch.from_numpy(level)).permute(0, 2, 3, 1).reshape(images.shape)
    np.testing.assert_allclose(denoiser.denoise(images, level), expected.numpy(), atol=1e-5)
