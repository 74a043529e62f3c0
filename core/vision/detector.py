"""The detector as a part of a bundle: made once from TensorFlow's graph, then loaded like any weights."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from minigpt4.core.errors import BundleError
from minigpt4.core.vision.detections import MIN_SCORE, Detections, detections_of, merge_flipped
from minigpt4.core.vision.ssd import SSDMobileNetV2, state_from_graph
from minigpt4.core.weights.graph_def import read_constants
from minigpt4.core.weights.read_tensors import read_tensors
from minigpt4.core.weights.safetensors_writer import write_tensors


class Detector:
    """Finds COCO's objects in pictures of 300 x 300 pixels."""

    def __init__(self, network: SSDMobileNetV2) -> None:
        self.network = network

    def __call__(self, pixels_BCHW: Tensor, *, min_score: float = MIN_SCORE) -> list[Detections]:
        """The objects of each picture of the batch: RGB (B, 3, 300, 300), from 0 to 1."""
        # Channels last takes 0.9 of the time, with the same boxes. bfloat16 took ten times as long there.
        pixels_BCHW = pixels_BCHW.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            offsets_BA4, logits_BAC = self.network(pixels_BCHW * 2 - 1)
            scores_BAC = logits_BAC[..., 1:].sigmoid()
        return [
            detections_of(offsets_A4, scores_AC, min_score=min_score)
            for offsets_A4, scores_AC in zip(offsets_BA4.cpu().numpy(), scores_BAC.cpu().numpy(), strict=True)
        ]

    def with_flip(self, pixels_BCHW: Tensor, *, min_score: float = MIN_SCORE) -> list[Detections]:
        """The objects of each picture and of its horizontal flip, see `merge_flipped`."""
        found = self(torch.cat([pixels_BCHW, pixels_BCHW.flip(-1)]), min_score=min_score)
        half = len(pixels_BCHW)
        return [merge_flipped(*pair) for pair in zip(found[:half], found[half:], strict=True)]


HALVED = "classes."
"""The convolutions that predict classes, four fifths of all weights, are kept in float16: scores then differ
by at most 0.0003. With all weights in float16, scores would by 0.009, and boxes by 2.2 pixels of 300."""


def convert_graph(graph: Path, path: Path) -> None:
    """Write the network of TensorFlow's frozen graph to `path` as safetensors, atomically.

    Raises BundleError if `graph` is not that of ssd_mobilenet_v2_coco, OSError if the file cannot be
    written.
    """
    constants = read_constants(graph)
    try:
        state = state_from_graph(constants)
        SSDMobileNetV2.from_state(state)
    except (KeyError, RuntimeError, ValueError) as error:
        missing = f": it has no {error}" if isinstance(error, KeyError) else ""
        raise BundleError(
            f"The graph {graph} is not SSD with MobileNetV2 for COCO{missing}; fetch that one again."
        ) from error
    halved = {name: tensor.half() for name, tensor in state.items() if name.startswith(HALVED)}
    write_tensors(path, state | halved)


def made_detector(graph: Path, bundle: str) -> Path:
    """The detector's file beside its TensorFlow graph, converted now if it is not there yet.

    Raises BundleError if the graph is missing or a different one, or the file cannot be written.
    """
    path = graph.with_suffix(".safetensors")
    if path.is_file():
        return path
    if not graph.is_file():
        raise BundleError(
            f"The detector's file {graph} is not here; fetch it with `minigpt4 models pull {bundle}`."
        )
    try:
        convert_graph(graph, path)
    except OSError as error:
        raise BundleError(
            f"The detector's file {path} cannot be written: {error.strerror or error}; "
            "fix that, or set MINIGPT4_HOME to a folder of your own."
        ) from error
    return path


def load_detector(path: Path, device: str = "cpu") -> Detector:
    """The detector that `convert_graph` wrote, in float32; raises BundleError if the file is damaged."""
    tensors = read_tensors(path, what="detector's file")
    try:
        return Detector(SSDMobileNetV2.from_state(tensors).to(device))
    except (KeyError, RuntimeError) as error:
        raise BundleError(
            f"The detector's file {path} is damaged ({type(error).__name__}); delete it, it is made again."
        ) from error
