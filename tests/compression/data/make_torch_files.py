"""Makes small-net.onnx, small-net.pt2 and small-net.npz: one network as PyTorch 2.13 exports it, and its answers.

Run with PyTorch and onnx installed: python tests/compression/data/make_torch_files.py
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

HERE = Path(__file__).parent


class SmallNet(nn.Module):
    """A stem, a depthwise block with a shortcut, pooling, a dense layer: (N, 3, 16, 16) to (N, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.block = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 8, 1)
        )
        self.dense = nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = self.stem(image)
        return self.dense((features + self.block(features)).mean((2, 3)))


def main() -> None:
    torch.manual_seed(0)
    network = SmallNet()
    with torch.no_grad():
        for _ in range(50):  # gives the batch normalizations statistics of their own
            network(torch.rand(16, 3, 16, 16))
    network.eval()
    images = torch.rand(4, 3, 16, 16)
    np.savez(HERE / "small-net.npz", images=images.permute(0, 2, 3, 1).numpy(), scores=network(images).detach().numpy())
    open_batch = {"image": {0: "batch"}, "scores": {0: "batch"}}
    torch.onnx.export(
        network,
        (images,),
        HERE / "small-net.onnx",
        dynamo=False,
        input_names=["image"],
        output_names=["scores"],
        dynamic_axes=open_batch,
    )
    program = torch.export.export(network, (images,), dynamic_shapes={"image": {0: torch.export.Dim.DYNAMIC}})
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names folders of the machine
    torch.export.save(program, HERE / "small-net.pt2")


if __name__ == "__main__":
    main()
