# SPDX-License-Identifier: Apache-2.0
"""The sign networks on a CPU answer as the plain ones do, whatever way an image lies in memory."""

import copy

from mmperception.config import from_mapping
from mmperception.network.model import fold_conv_norms
from mmperception.network.signs import (
    build_sign_network,
    DETECTOR,
    fold_pixels,
    scale_pixels,
    SignNetworkConfig,
)
from mmperception.network.swift_signs import SwiftClassifier, SwiftDetector
from mmperception.sign_weights import load_sign_networks
from mmperception.signs import padded, resized_crop, SignReader
import numpy as np
import pytest
import torch


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_the_swift_networks_answer_as_the_networks_do_in_images_of_any_size(dtype):
    rng = np.random.default_rng(1)
    pair = load_sign_networks(from_mapping({}).signs)
    for kind, network, _ in pair:
        plain = fold_conv_norms(network).to(dtype).to(memory_format=torch.channels_last)
        swift = (SwiftDetector if kind == DETECTOR else SwiftClassifier)(plain)
        plain = copy.deepcopy(plain).float()  # the weights of `dtype`, the sums in float32
        for size in ((48, 80), (37, 101), (48, 80)):
            pixels = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
            with torch.inference_mode():
                if kind == DETECTOR:
                    expected = plain(fold_pixels(torch.from_numpy(padded(pixels))[None]))
                    found = swift(pixels)
                else:
                    crops = np.stack((resized_crop(pixels), resized_crop(pixels[::-1])))
                    scaled = scale_pixels(torch.from_numpy(crops)).permute(0, 3, 1, 2)
                    expected, found = [plain(scaled)], [swift(crops)]
            for a, b in zip(found, expected, strict=True):
                assert a.shape == b.shape
                error = (a.float() - b).abs().max() / b.abs().max()
                assert error < (1e-5 if dtype == torch.float32 else 0.05)


def test_an_image_that_lies_backwards_in_memory_or_is_read_only_is_read_like_any_other():
    rng = np.random.default_rng(2)
    pixels = rng.integers(0, 256, (64, 96, 3)).astype(np.uint8)
    network = build_sign_network(SignNetworkConfig(kind=DETECTOR, channels=(8, 8, 8)))
    reader, backwards = SignReader(network, bfloat16=False), pixels[::-1, :, ::-1].copy()
    locked = pixels.copy()
    locked.flags.writeable = False
    expected = reader.detect(pixels)[0]
    assert len(expected)
    for same in (backwards[::-1, :, ::-1], locked):
        assert (reader.detect(same)[0] == expected).all()
