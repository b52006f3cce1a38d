# SPDX-License-Identifier: Apache-2.0
"""The command line: one file a verb, each with `add_arguments(parser)` and `run(args)`."""


class WrongUse(Exception):
    """What the user asked for makes no sense; the text says what to change. Exit code 2."""
