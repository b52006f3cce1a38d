# SPDX-License-Identifier: Apache-2.0
"""`mmperception export WEIGHTS OUT`: make a release file from a trained one, with its facts."""

from dataclasses import replace
import hashlib
import json
from pathlib import Path

from mmperception import checkpoint
from mmperception.datatypes import CLASSES
from mmperception.evaluation.report import source_commit
from mmperception.network.model import ADDED_PARTS, PerceptionNetwork
from mmperception.sign_classes import SIGN_CLASSES
from mmperception.sign_weights import load_sign_network

STREET_LICENCE, SIMULATED_LICENCE = 'CC-BY-NC-SA-3.0', 'Apache-2.0'


def add_arguments(parser):
    """Declare the verb's arguments."""
    parser.add_argument('weights', type=Path, help='weights.safetensors of a run')
    parser.add_argument('out', type=Path, help='file to write')
    parser.add_argument(
        '--second',
        type=Path,
        help='weights whose second stage and image check are taken instead of its own',
    )
    parser.add_argument(
        '--check', type=Path, help='weights whose image check is taken instead of its own'
    )
    parser.add_argument(
        '--float16', action='store_true', help='store the numbers in half the room'
    )
    parser.add_argument('--force', action='store_true', help='overwrite an existing file')


def run(args):
    """Check the weights, write them with their facts, print the SHA-256 that users need."""
    if args.out.exists() and not args.force:
        raise ValueError(f'{args.out}: exists; add --force to overwrite it')
    if _is_of_signs(args.weights):
        network, metadata = load_sign_network(args.weights)
        facts = _sign_facts(metadata)
    else:
        network, metadata = checkpoint.load_network(args.weights)
        if args.second:
            network, metadata = _with_second_stage(network, metadata, args.second)
        if args.check:
            network, metadata = _with_check(network, metadata, args.check)
        facts = _facts(metadata)
    checkpoint.save_network(args.out, network, {**metadata, **facts}, args.float16)
    print(f'{args.out.resolve()}: SHA-256 {hashlib.sha256(args.out.read_bytes()).hexdigest()}')
    return 0


def _with_second_stage(first, metadata, path):
    """Return the network and facts of a first stage with what another file adds to its own."""
    other, facts = checkpoint.load_network(path)
    if other.refiner is None:
        raise ValueError(f'--second: {path} has no second stage')
    config = replace(first.config, refine=True, check_images=other.image_check is not None)
    first = {n: v for n, v in first.state_dict().items() if not n.startswith(ADDED_PARTS)}
    network = _joined(config, first, other, ADDED_PARTS)
    return network, metadata | _facts_about(('refine', 'check_images'), facts)


def _with_check(network, metadata, path):
    """Return the network and its facts with the image check of another file."""
    other, facts = checkpoint.load_network(path)
    if other.image_check is None:
        raise ValueError(f'--check: {path} has no image check')
    if not _has_same_camera(network, other):
        raise ValueError(
            f'--check: {path} was trained on another camera branch: train a check for this one'
        )
    config = replace(network.config, check_images=True)
    network = _joined(config, network.state_dict(), other, ('image_check.',))
    return network, metadata | _facts_about(('check_images',), facts)


def _joined(config, state, other, prefixes):
    """Return a network of the values in `state`, and of `other` those that begin so."""
    network = PerceptionNetwork(config)
    added = {n: v for n, v in other.state_dict().items() if n.startswith(prefixes)}
    network.load_state_dict(state | added)
    return network


def _facts_about(parts, facts):
    return {name: value for name, value in facts.items() if name.startswith(parts)}


def _has_same_camera(one, other):
    """Tell whether two networks see the same in an image, to the bit."""
    mine, theirs = one.state_dict(), other.state_dict()
    names = [name for name in mine if name.startswith(('trunk.', 'camera_head.'))]
    return all(name in theirs and mine[name].equal(theirs[name]) for name in names)


def _is_of_signs(path):
    _, metadata = checkpoint.read_tensors(path)
    return 'kind' in json.loads(metadata.get('network', '{}'))


def _sign_facts(metadata):
    """Say what a sign network was made from: without streets, pictures of KITTI surround signs."""
    train = json.loads(metadata.get('train', '{}'))
    streets = train.get('streets', 0)
    around = f'{streets} simulated streets' if streets else 'pictures of KITTI raw drives'
    names = {'gtsdb': 'GTSDB', 'gtsrb': 'GTSRB', 'drawn': 'drawn signs'}
    parts = [names[source] for source in train.get('sources', [])]
    return {
        'data': ', '.join([*parts, f'{around} as surroundings']),
        'licence': SIMULATED_LICENCE if streets else STREET_LICENCE,
        'classes': ' '.join(sign.name for sign in SIGN_CLASSES),
        'commit': source_commit(),
    }


def _facts(metadata):
    """Say what the file was made from, all stages; the licence follows from the data."""
    names = ('train', 'refine', 'check_images')
    runs = {name: json.loads(metadata[name]) for name in names if name in metadata}
    drives = sorted({d for run in runs.values() if run.get('data') for d in run.get('drives', [])})
    parts = [f'KITTI raw drives {", ".join(drives)}'] if drives else []
    if any(run.get('scenes') for run in runs.values()):
        parts.append('simulated scenes')
    if any(run.get('galleries') for run in runs.values()):
        parts.append('simulated things pasted into them')
    # Folders of one machine say nothing to another.
    for run in runs.values():
        run |= {name: bool(run.get(name)) for name in ('data', 'scenes', 'galleries', 'start')}
    return {
        'data': ' and '.join(parts) or 'unknown',
        'licence': STREET_LICENCE if drives else SIMULATED_LICENCE,
        'classes': ' '.join(CLASSES),
        'commit': source_commit(),
        **{name: json.dumps(run) for name, run in runs.items()},
    }
