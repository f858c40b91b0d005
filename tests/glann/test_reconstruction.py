import pytest
import torch

from glann import reconstruction, weights


def images(channels, seed=0):
    return torch.rand(3, channels, 32, 32, generator=torch.Generator().manual_seed(seed))


def test_psnr_is_the_mean_over_images_in_decibels():
    black = torch.zeros(2, 1, 16, 16)
    copies = torch.stack([torch.full((1, 16, 16), 0.1), torch.full((1, 16, 16), 0.01)])
    assert reconstruction.psnr(black, copies) == pytest.approx((20 + 40) / 2, abs=1e-4)
    assert reconstruction.psnr(black, black) == 100
    invisible = torch.cat([images(3), torch.zeros(3, 1, 32, 32)], dim=1)
    assert reconstruction.psnr(invisible, invisible.flip(0)) == 100


def test_lpips_takes_a_network_that_the_loss_does_not_have():
    from torchvision.models import alexnet, squeezenet1_1

    assert "glann weights fetch lpips-squeeze" in reconstruction.lpips(images(3), images(3, 1), "l1")[2]
    made = []
    try:
        torch.manual_seed(0)
        for name, network in (("lpips-squeeze", squeezenet1_1), ("lpips-alex", alexnet)):
            path = weights.cached(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            made.append(path)
            torch.save({k: v for k, v in network().state_dict().items() if k.startswith("features")}, path)
            for channels in (1, 3, 4):
                value, used, note = reconstruction.lpips(images(channels), images(channels, 1), "lpips-alex+l1")
                assert value > 0
                assert (used, note) == ("lpips-squeeze", None)
                assert reconstruction.lpips(images(channels), images(channels), None)[0] == pytest.approx(0, abs=1e-6)
        assert reconstruction.lpips(images(3), images(3, 1), "l1")[1] == "lpips-alex"
        made[0].unlink()
        _, used, note = reconstruction.lpips(images(3), images(3, 1), "lpips-alex+l1")
        assert used == "lpips-alex"
        assert "flatters" in note
    finally:
        for path in made:
            path.unlink(missing_ok=True)
