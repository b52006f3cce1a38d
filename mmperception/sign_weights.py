# SPDX-License-Identifier: Apache-2.0
"""
Weights files of the sign networks: the shipped pairs, or a folder of one's own.

Format and checks are those of checkpoint.py; the shape of a network stands in its header.
"""

import json
import logging
from pathlib import Path

from mmperception import checkpoint
from mmperception.network.signs import (
    build_sign_network,
    CLASSIFIER,
    DETECTOR,
    SignNetworkConfig,
)
from mmperception.signs import SignReader

logger = logging.getLogger(__name__)
# What `signs.weights` may name, and the end of the files' names.
SHIPPED_PAIRS = {'signs': '', 'drawn': '_drawn'}


def load_sign_network(path, kind=None):
    """
    Build the sign network that a weights file describes and fill it.

    Returns
    -------
    network : SignDetector or SignClassifier
    metadata : dict of str to str

    Raises
    ------
    ValueError
        If the file cannot be read or holds another kind of network than `kind`.

    """
    tensors, metadata = checkpoint.read_tensors(path)
    try:
        config = SignNetworkConfig.from_mapping(json.loads(metadata['network']))
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f'weights {path}: no sign network in its header') from error
    if kind is not None and config.kind != kind:
        raise ValueError(f'weights {path}: holds a {config.kind}, expected a {kind}')
    return checkpoint.filled(build_sign_network(config), tensors, path), metadata


def load_sign_networks(settings, allow_unverified=False):
    """
    Load the shipped networks, or those of a folder.

    Parameters
    ----------
    settings : SignsConfig
        Its `weights` is `signs`, `drawn` or a folder of safetensors files.
    allow_unverified : bool
        Load files of a folder, whose SHA-256 nobody knows.

    Returns
    -------
    list of (kind, network, metadata)

    Raises
    ------
    ValueError
        If a file cannot be read, holds no sign network, or a shipped one was changed.

    """
    if settings.weights in SHIPPED_PAIRS:
        names = [kind + SHIPPED_PAIRS[settings.weights] for kind in (DETECTOR, CLASSIFIER)]
        paths = {checkpoint.weights_path(name): checkpoint.SHIPPED.get(name) for name in names}
    else:
        paths = dict.fromkeys(sorted(Path(settings.weights).glob('*.safetensors')))
        if not paths:
            raise ValueError(
                f'signs.weights {settings.weights}: give signs, drawn, or a folder that holds '
                'a sign detector and a sign classifier as safetensors files'
            )
    loaded = []
    for path, expected in paths.items():
        checkpoint.verify(path, expected, allow_unverified)
        network, metadata = load_sign_network(path)
        licence = metadata.get('licence', 'unknown')
        logger.info('weights %s: %s, licence %s', settings.weights, path.name, licence)
        loaded.append((network.config.kind, network, metadata))
    return loaded


def load_sign_reader(config, device):
    """
    Return the SignReader that the settings ask for.

    Parameters
    ----------
    config : Config
        Its `signs` and `allow_unverified` count.
    device : torch.device
        Where the networks run.

    Returns
    -------
    SignReader

    Raises
    ------
    ValueError
        As `load_sign_networks`, or if there is not one network of each kind.

    """
    loaded = load_sign_networks(config.signs, config.allow_unverified)
    networks = {kind: network for kind, network, _ in loaded}
    if len(loaded) != 2 or len(networks) != 2:
        raise ValueError(f'signs.weights {config.signs.weights}: needs one network of each kind')
    return SignReader(
        networks[DETECTOR], networks[CLASSIFIER], device=device, min_read=config.signs.min_read
    )
