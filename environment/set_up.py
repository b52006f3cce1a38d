# SPDX-License-Identifier: Apache-2.0
"""
Make .venv, in which demo and tests run on a machine without ROS.

Three steps: pinned wheels, the interface packages that no index has, the project itself. Each
leaves a fingerprint of its inputs in .venv/set_up and is skipped while that holds. What is missing
on the machine is said in one sentence. With a sourced ROS distribution only what it lacks is
installed. Standard library only, and readable by old Pythons, so that they can be told so.
"""

from concurrent.futures import ThreadPoolExecutor
import fcntl
import hashlib
import importlib.util
import json
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
import sysconfig
import time

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / '.venv'
STAMPS = VENV / 'set_up'
LOG = STAMPS / 'log.txt'
PYTHON = VENV / 'bin' / 'python'
INTERFACES = ROOT / 'environment' / 'interfaces'
REQUIREMENTS = ROOT / 'environment' / 'requirements.txt'
ROS_REQUIREMENTS = ROOT / 'environment' / 'requirements-ros.txt'
UNFINISHED = 'unfinished'
OLDEST_PYTHON = (3, 10)

# Measured: the finished environment, and beside it the wheels while pip unpacks them.
DISK_GB = {'cpu': 4, 'cuda': 12}
CUDA_NOTICE = (
    'torch comes with its CUDA libraries here, 2.7 GB to download: where no NVIDIA GPU is used, '
    'set TORCH_INDEX_URL to the index of CPU builds that the PyTorch pages name'
)
# Modules whose name differs from that of their package.
MODULES = {'opencv-python-headless': 'cv2', 'pyyaml': 'yaml'}


class Missing(Exception):
    """What the machine lacks, in one sentence that says what to do."""


def main():
    """Bring .venv up to date; return 1, with a sentence, when something is missing."""
    try:
        check_python()
        with open(__file__, encoding='utf-8') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            set_up()
    except Missing as missing:
        print(f'set-up: {missing}', file=sys.stderr)
        return 1
    return 0


def set_up():
    """Run each step whose inputs changed since it last finished."""
    if not todo():
        return
    check_machine()
    make_venv()
    for name, action, digest in todo():
        started = time.monotonic()
        print(f'set-up: {name} (log: {LOG})', flush=True)
        (STAMPS / name).write_text(UNFINISHED)
        action()
        (STAMPS / name).write_text(digest)
        print(f'set-up: {name} ready after {time.monotonic() - started:.0f} s', flush=True)


def todo():
    return [step for step in steps() if read(STAMPS / step[0]) != step[2]]


def steps():
    """Return (name, action, fingerprint of the inputs) of every step, in order."""
    project = [ROOT / name for name in ('setup.py', 'setup.cfg', 'package.xml')]
    interfaces = sorted(path for path in INTERFACES.rglob('*') if path.is_file())
    return [
        ('wheels', install_wheels, fingerprint([REQUIREMENTS, ROS_REQUIREMENTS])),
        ('interfaces', generate_interfaces, fingerprint(interfaces)),
        ('project', install_project, fingerprint(project)),
    ]


def fingerprint(paths):
    """Return a digest of these files, this script, the place, and the Python and ROS in use."""
    digest = hashlib.sha256()
    machine = (str(VENV), sys.version_info[:2], os.environ.get('ROS_DISTRO', ''))
    digest.update(repr(machine).encode())
    for path in [Path(__file__), *paths]:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def read(path):
    return path.read_text() if path.is_file() else ''


def check_python():
    """Raise Missing for a Python that is too old or cannot make environments."""
    version = '.'.join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        raise Missing(
            f'Python {version} is too old: name one of 3.10 or later, '
            'for example make PYTHON=python3.11 demo'
        )
    if not all(map(importlib.util.find_spec, ('venv', 'ensurepip'))):
        raise Missing(f'Python {version} has no venv module: install python3-venv')


def check_machine():
    """Raise Missing for a compiler, header or disk space that the steps will need."""
    for kind, names in (('C', ('cc', 'gcc', 'clang')), ('C++', ('c++', 'g++', 'clang++'))):
        chosen = os.environ.get({'C': 'CC', 'C++': 'CXX'}[kind])
        if not any(map(shutil.which, [chosen] if chosen else names)):
            raise Missing(f'no {kind} compiler found: install build-essential, or gcc and g++')
    if not shutil.which('make'):
        raise Missing('make not found: install build-essential, or make')
    if not Path(sysconfig.get_paths()['include'], 'Python.h').is_file():
        raise Missing('the headers of Python are missing: install python3-dev')
    if not is_usable():
        check_disk('cpu')


def check_disk(build):
    free_gb = shutil.disk_usage(ROOT).free / 1e9
    if free_gb < DISK_GB[build]:
        raise Missing(
            f'{DISK_GB[build]} GB of disk are needed and {free_gb:.1f} GB are free '
            f'at {ROOT}: free some, or move the project'
        )


def make_venv():
    """Create .venv, anew when it was left half filled or was for another Python or ROS."""
    if not is_usable():
        options = ['--clear'] + (['--system-site-packages'] if has_ros() else [])
        shutil.rmtree(VENV, ignore_errors=True)
        made = subprocess.run([sys.executable, '-m', 'venv', *options, str(VENV)], check=False)
        if made.returncode:
            raise Missing(f'no environment could be made at {VENV}: see the lines above')
    STAMPS.mkdir(exist_ok=True)
    (VENV / 'COLCON_IGNORE').touch()
    LOG.write_text('')


def is_usable():
    pip_module = site_packages() / 'pip' / '__main__.py'
    sees_system = 'include-system-site-packages = true' in read(VENV / 'pyvenv.cfg')
    is_whole = PYTHON.exists() and pip_module.is_file() and sees_system == has_ros()
    return is_whole and read(STAMPS / 'wheels') != UNFINISHED


def site_packages():
    version = '.'.join(map(str, sys.version_info[:2]))
    return VENV / 'lib' / f'python{version}' / 'site-packages'


def has_ros():
    """Tell whether a ROS distribution is sourced; its packages then serve instead of wheels."""
    return bool(os.environ.get('ROS_DISTRO')) and bool(importlib.util.find_spec('rclpy'))


def install_wheels():
    """Install the pinned wheels; pip's own configuration says from where."""
    if has_ros():
        print(f'set-up: ROS {os.environ["ROS_DISTRO"]} is sourced, only what it lacks is added')
        pip_install(*lacking(REQUIREMENTS))
        return
    index = os.environ.get('TORCH_INDEX_URL')
    extra = ['--extra-index-url', index] if index else []
    if not index and torch_brings_cuda():
        print(f'set-up: {CUDA_NOTICE}', flush=True)
        check_disk('cuda')
    pip_install(*extra, '-r', str(REQUIREMENTS), '-r', str(ROS_REQUIREMENTS))
    say_whether_open3d_loads()


def lacking(requirements):
    """Return the names, without pins, of what a requirements file lists and Python lacks."""
    names = re.findall(r'^([\w-]+)==', requirements.read_text(), re.MULTILINE)
    found = importlib.util.find_spec
    return [name for name in names if not found(MODULES.get(name, name.replace('-', '_')))]


def torch_brings_cuda():
    """Ask pip, without installing, whether its torch wants CUDA libraries; an old pip: yes."""
    (pin,) = re.findall(r'^torch==.*$', REQUIREMENTS.read_text(), re.MULTILINE)
    options = ['--dry-run', '--quiet', '--ignore-installed', '--no-deps', '--report', '-']
    command = [str(PYTHON), '-m', 'pip', 'install', *options, pin]
    answer = subprocess.run(command, capture_output=True, check=False)
    if answer.returncode:
        return b'no such option' in answer.stderr
    metadata = json.loads(answer.stdout)['install'][0]['metadata']
    return any(line.startswith(('nvidia', 'cuda')) for line in metadata.get('requires_dist', []))


def pip_install(*arguments):
    """Run pip in .venv; raise Missing with the likely cause when it fails."""
    options = ['--disable-pip-version-check', '--no-input', '--progress-bar', 'off']
    if run([PYTHON, '-m', 'pip', 'install', *options, *arguments]):
        raise Missing(pip_failure(read(LOG)))


def pip_failure(log):
    """Return one sentence on why pip failed, from what it wrote."""
    if 'No space left on device' in log:
        return f'the disk is full: {DISK_GB["cpu"]} GB are needed at {ROOT} and in the pip cache'
    if re.search(r'NewConnectionError|NameResolutionError|ConnectTimeout|ProxyError', log):
        return (
            'the package index cannot be reached: check the network, or what '
            f'`pip config list` names; the log is {LOG}'
        )
    return f'pip failed: {last_line(log)}; the log is {LOG}'


def last_line(log):
    lines = [line for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r'ERROR|.*Error', line)]
    return (errors or lines or ['it wrote nothing'])[-1].strip()


def say_whether_open3d_loads():
    command = [str(PYTHON), '-c', 'import open3d']
    trial = subprocess.run(command, stderr=subprocess.PIPE, check=False)
    if trial.returncode:
        reason = last_line(trial.stderr.decode(errors='replace'))
        print(
            f'set-up: notice: Open3D does not load ({reason}); all else works without it, '
            'install the libraries libgl1, libusb-1.0-0, libx11-6 and libgomp1 to have it'
        )


def generate_interfaces():
    """Generate and install the interface packages, two at a time."""
    if has_ros():
        absent = [p.name for p in sorted(INTERFACES.iterdir()) if not find(p.name)]
        if absent:
            raise Missing(f'{", ".join(absent)} not found: run rosdep install --from-paths .')
        return
    point_cmake_at_this_python()
    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(generate_interface, sorted(INTERFACES.iterdir())))
    shutil.rmtree(VENV / 'build', ignore_errors=True)


def find(module):
    return importlib.util.find_spec(module)


def generate_interface(package):
    """Configure, build and install one interface package into .venv."""
    build = VENV / 'build' / package.name
    shutil.rmtree(build, ignore_errors=True)
    cmake = VENV / 'bin' / 'cmake'
    options = [
        f'-DCMAKE_INSTALL_PREFIX={VENV}',
        f'-DPython3_EXECUTABLE={PYTHON}',
        '-DBUILD_TESTING=OFF',
    ]
    for command in (
        [cmake, '-S', package, '-B', build, *options],
        [cmake, '--build', build, '--target', 'install'],
    ):
        if run(command):
            raise Missing(
                f'{package.name} could not be generated: {last_line(read(LOG))}; the log is {LOG}'
            )


def point_cmake_at_this_python():
    """Replace the paths of the machine that built the wheels by those of .venv."""
    headers = sysconfig.get_paths()['include']
    for file in (VENV / 'share').rglob('*.cmake'):
        text = file.read_text()
        fixed = re.sub(r'/opt/python/cp[\w-]+/include/python3\.\d+', headers, text)
        fixed = re.sub(
            r'/opt/python/cp[\w-]+/lib/python3\.\d+/site-packages', str(site_packages()), fixed
        )
        if fixed != text:
            file.write_text(fixed)


def install_project():
    """Make the package importable from its source and put its commands into .venv/bin."""
    pip_install('--no-build-isolation', '--no-deps', '--editable', str(ROOT))


def run(command):
    """Run a command with its output in the log; return its exit status."""
    prefix = {'AMENT_PREFIX_PATH': str(VENV), 'CMAKE_PREFIX_PATH': str(VENV)}
    environment = dict(os.environ, **({} if has_ros() else prefix))
    environment['PATH'] = f'{VENV / "bin"}:{environment["PATH"]}'
    with LOG.open('a') as log:
        log.write(f'\n$ {" ".join(map(str, command))}\n')
        log.flush()
        return subprocess.run(
            list(map(str, command)),
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            check=False,
        ).returncode


if __name__ == '__main__':
    sys.exit(main())
