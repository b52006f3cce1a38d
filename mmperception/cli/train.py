# SPDX-License-Identifier: Apache-2.0
"""`mmperception train CONFIG --out DIR`: train a network; resumes after any kill."""

from dataclasses import replace
import os
from pathlib import Path

from mmperception.cli import WrongUse
from mmperception.config import from_mapping
from mmperception.devices import choose_device
from mmperception.training import config as train_config
from mmperception.training import sign_config
from mmperception.training.data import real_scenes
from mmperception.training.loop import Trainer
from mmperception.training.rows import load_rows, RowTrainers
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
    if isinstance(train, dict):
        return _train_rows(train, args, device)
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

        if not root and not train.streets:
            raise ValueError('data: name the folder of gtsdb and gtsrb, or set MMPERCEPTION_DATA')
        return SignTrainer(train, out, root, device)
    real = real_scenes(root, train.drives, train.network) if root else []
    if train.refine:
        from mmperception.training.refine_loop import RefineTrainer

        return RefineTrainer(train, out, real, device)
    if train.check_images:
        from mmperception.training.check_loop import CheckTrainer

        return CheckTrainer(train, out, real, device)
    if train.camera_alone:
        from mmperception.training.camera_loop import CameraTrainer

        return CameraTrainer(train, out, real, device)
    return Trainer(train, out, real, device)


def _checked(args):
    """Return the settings of the run and its torch device."""
    try:
        values = train_config.read_mapping(args.config)
        load = sign_config.load if 'network' in values else train_config.load
        train = (load_rows if 'rows' in values else load)(args.config)
        device = from_mapping({'device': args.device}).device
    except ValueError as error:
        raise WrongUse(str(error)) from error
    return train, choose_device(device)


def _make_scenes(train, first, number, camera):
    from mmperception.training.simulated import make_scenes

    if not train.scenes:
        raise ValueError('scenes: the YAML names no folder for simulated scenes')
    seeds = range(first, first + number)
    made = make_scenes(train.scenes, seeds, bool(camera), train.network)
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


def _train_rows(trains, args, device):
    """Train the rows of a comparison side by side."""
    import torch

    first = next(iter(trains.values()))
    if args.make_scenes:
        recurrent = [train for train in trains.values() if train.fusion == 'recurrent']
        return _make_scenes((recurrent or [first])[0], *args.make_scenes)
    if args.make_galleries:
        return _make_galleries(first, *args.make_galleries)
    if any(args.out.glob('*/state.safetensors')) and not args.resume:
        raise ValueError(f'{args.out}: holds a run; add --resume or choose another folder')
    if first.threads:
        torch.set_num_threads(first.threads)
    root = first.data or os.environ.get('MMPERCEPTION_DATA', '')
    trains = {name: replace(train, data=root) for name, train in trains.items()}
    real = real_scenes(root, first.drives, first.network) if root else []
    trainers = RowTrainers(trains, args.out, real, device)
    if args.resume:
        trainers.resume()
    progress = tqdm(total=first.steps, initial=trainers.step, unit='step', disable=None)
    logs = {name: _Log(args.out / name) for name in trains}

    def on_step(name, step, parts):
        logs[name].add(step, parts)
        progress.update(trainers.step - progress.n)

    trainers.run(on_step)
    progress.close()
    for name, log in logs.items():
        log.close()
        print(f'weights of {name}: {(args.out / name / "weights.safetensors").resolve()}')
    return 0


def _train(trainer, out):
    progress = tqdm(total=trainer.train.steps, initial=trainer.step, unit='step', disable=None)
    log = _Log(out)

    def on_step(step, parts):
        progress.update()
        if text := log.add(step, parts):
            progress.set_postfix_str(text)

    trainer.run(on_step)
    progress.close()
    log.close()


class _Log:
    """Means of the parts of the loss, every 50 steps, in TensorBoard and `log.txt`."""

    def __init__(self, out):
        from torch.utils.tensorboard import SummaryWriter

        self._out, self._means = out, {}
        self._writer = SummaryWriter(str(out / 'tensorboard'))

    def add(self, step, parts):
        """Take in a step; return the text of the means when they are written, else ''."""
        for name, value in parts.items():
            self._means[name] = 0.98 * self._means.get(name, value) + 0.02 * value
        if step % 50:
            return ''
        for name, value in self._means.items():
            self._writer.add_scalar(f'loss/{name}', value, step)
        text = ' '.join(f'{name} {value:.3f}' for name, value in self._means.items())
        with (self._out / 'log.txt').open('a', encoding='utf-8') as log:
            log.write(f'{step} {text}\n')
        return text

    def close(self):
        self._writer.close()
