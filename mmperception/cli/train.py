# SPDX-License-Identifier: Apache-2.0
"""`mmperception train CONFIG --out DIR`: train a network; resumes after any kill."""

from dataclasses import replace
import os
from pathlib import Path

from mmperception.cli import WrongUse
from mmperception.config import from_mapping
from mmperception.network.config import NetworkConfig
from mmperception.pipeline import choose_device
from mmperception.training import config as train_config
from mmperception.training import sign_config
from mmperception.training.data import real_scenes
from mmperception.training.loop import Trainer
from mmperception.training.sign_config import SignTrainConfig
from tqdm import tqdm


def add_arguments(parser):
    """Declare the verb's arguments."""
    parser.add_argument('config', type=Path, help='YAML of training settings')
    parser.add_argument('--out', type=Path, required=True, help='folder of the run')
    parser.add_argument('--resume', action='store_true', help='continue the run in --out')
    parser.add_argument('--device', default='cpu', help='cpu or cuda:N')
    parser.add_argument(
        '--make-scenes',
        nargs=3,
        type=int,
        metavar=('FIRST', 'NUMBER', 'CAMERA'),
        help='only simulate scenes into the folder that the YAML names: first seed, how many, '
        '1 with images or 0 without',
    )
    parser.add_argument(
        '--make-galleries',
        nargs=2,
        type=int,
        metavar=('FIRST', 'NUMBER'),
        help='only simulate things for the paste into the folder that the YAML names',
    )


def run(args):
    """Train, or make the scenes to train on."""
    train, device = _checked(args)
    if args.make_scenes:
        if isinstance(train, SignTrainConfig):
            raise WrongUse('--make-scenes: a sign network is trained without scenes')
        return _make_scenes(train, *args.make_scenes)
    if args.make_galleries:
        return _make_galleries(train, *args.make_galleries)
    if (args.out / 'state.safetensors').exists() and not args.resume:
        raise ValueError(f'{args.out}: holds a run; add --resume or choose another folder')
    args.out.mkdir(parents=True, exist_ok=True)
    import torch

    if train.threads:
        torch.set_num_threads(train.threads)
    root = train.data or os.environ.get('MMPERCEPTION_DATA', '')
    train = replace(train, data=root)  # what a run saw decides its licence
    trainer = _trainer(train, args.out, root, device)
    if args.resume:
        trainer.resume()
    if trainer.rank:
        trainer.run(lambda step, parts: None)
        return 0
    _train(trainer, args.out)
    print(f'weights: {(args.out / "weights.safetensors").resolve()}')
    return 0


def _trainer(train, out, root, device):
    if isinstance(train, SignTrainConfig):
        from mmperception.training.sign_loop import SignTrainer

        if not root:
            raise ValueError('data: name the folder of gtsdb and gtsrb, or set MMPERCEPTION_DATA')
        return SignTrainer(train, out, root, device)
    real = real_scenes(root, train.drives, NetworkConfig(fusion=train.fusion)) if root else []
    if train.refine:
        from mmperception.training.refine_loop import RefineTrainer

        return RefineTrainer(train, out, real, device)
    return Trainer(train, out, real, device)


def _checked(args):
    """Return the settings of the run and its torch device."""
    try:
        is_of_signs = 'network' in train_config.read_mapping(args.config)
        train = (sign_config if is_of_signs else train_config).load(args.config)
        device = from_mapping({'device': args.device}).device
    except ValueError as error:
        raise WrongUse(str(error)) from error
    return train, choose_device(device)


def _make_scenes(train, first, number, camera):
    from mmperception.training.simulated import make_scenes

    if not train.scenes:
        raise ValueError('scenes: the YAML names no folder for simulated scenes')
    seeds = range(first, first + number)
    made = make_scenes(train.scenes, seeds, bool(camera), NetworkConfig(fusion=train.fusion))
    for _ in tqdm(made, total=number, unit='scene', disable=None):
        pass
    return 0


def _make_galleries(train, first, number):
    from mmperception.training.galleries import make_galleries

    if not train.galleries:
        raise ValueError('galleries: the YAML names no folder for simulated things')
    made = make_galleries(train.galleries, range(first, first + number))
    for _ in tqdm(made, total=number, unit='gallery', disable=None):
        pass
    return 0


def _train(trainer, out):
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(out / 'tensorboard'))
    progress = tqdm(total=trainer.train.steps, initial=trainer.step, unit='step', disable=None)
    means = {}

    def on_step(step, parts):
        for name, value in parts.items():
            means[name] = 0.98 * means.get(name, value) + 0.02 * value
        progress.update()
        if step % 50 == 0:
            for name, value in means.items():
                writer.add_scalar(f'loss/{name}', value, step)
            text = ' '.join(f'{name} {value:.3f}' for name, value in means.items())
            progress.set_postfix_str(text)
            with (out / 'log.txt').open('a', encoding='utf-8') as log:
                log.write(f'{step} {text}\n')

    trainer.run(on_step)
    progress.close()
    writer.close()
