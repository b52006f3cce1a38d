# SPDX-License-Identifier: Apache-2.0
"""
`mmperception VERB`: the table of verbs, and how errors leave the program.

A verb's module is imported when the verb is used, so that help is instant. Exit codes: 0 done,
1 failed, 2 wrong use, 130 interrupted; an error is one sentence that says what to change.
"""

import argparse
import importlib
import sys

from mmperception import __version__
from mmperception.cli import WrongUse

# verb: (module in this folder, one line of help)
VERBS = {
    'simulate': ('simulate', 'write a bag of a simulated drive, with truth'),
    'import-kitti': ('import_kitti', 'turn a KITTI raw drive into a bag, with truth'),
    'replay': ('replay', 'play a bag through DDS into the nodes and sum up what they say'),
    'check': ('check', 'say what is in a bag, what is missing, and whether it lines up'),
    'evaluate': ('evaluate', 'measure accuracy on a bag or folder with truth'),
    'predict': ('predict', 'write results for a folder of KITTI objects or signs'),
    'explain': ('explain', 'show why the detections of a frame are there'),
    'train': ('train', 'train a network, or simulate the scenes to train on'),
    'export': ('export', 'make a release file from trained weights'),
    'bench': ('bench', 'measure the latency of each stage on this machine'),
}


def main(argv=None):
    """
    Run one verb.

    Returns
    -------
    int
        Exit code.

    """
    argv = sys.argv[1:] if argv is None else list(argv)
    verb = next((word for word in argv if word in VERBS), None)
    args = _parser(verb).parse_args(argv)
    try:
        return args.run(args)
    except WrongUse as error:
        return _say(args.verb, error, 2)
    except (ValueError, LookupError, OSError) as error:
        return _say(args.verb, error, 1)
    except KeyboardInterrupt:
        return 130


def _parser(chosen):
    parser = argparse.ArgumentParser(
        prog='mmperception', description='Camera, LiDAR and GPS perception for ROS 2.'
    )
    parser.add_argument('--version', action='version', version=f'mmperception {__version__}')
    verbs = parser.add_subparsers(dest='verb', metavar='VERB', required=True)
    for verb, (module, help_line) in VERBS.items():
        sub = verbs.add_parser(
            verb, help=help_line, description=f'{help_line[0].upper()}{help_line[1:]}.'
        )
        if verb == chosen:
            code = importlib.import_module(f'mmperception.cli.{module}')
            code.add_arguments(sub)
            sub.set_defaults(run=code.run)
    return parser


def _say(verb, error, exit_code):
    """Write an error as one sentence; a LookupError's quotes are dropped."""
    text = ' '.join(_text(error).split()) or type(error).__name__
    sys.stderr.write(f'mmperception {verb}: {text}\n')
    return exit_code


def _text(error):
    if isinstance(error, KeyError) and error.args:
        return str(error.args[0])
    if isinstance(error, OSError) and error.filename is not None:
        return f'{error.filename}: {error.strerror}: give another path, or see to this one'
    return str(error)


if __name__ == '__main__':
    sys.exit(main())
