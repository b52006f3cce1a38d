# SPDX-License-Identifier: Apache-2.0
"""What the package tells rosdep, colcon and setuptools agrees with what is in it."""

import ast
import os
from pathlib import Path
import re
import runpy
import xml.etree.ElementTree as ElementTree

import mmperception
from mmperception.config import Config
import pytest
import setuptools
import yaml

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'mmperception'
MANIFEST = ElementTree.parse(ROOT / 'package.xml').getroot()
DEPENDS = {e.text: e for e in MANIFEST if e.tag.endswith('depend')}


@pytest.fixture
def setup_arguments(monkeypatch):
    """Return what setup.py passes to setuptools."""
    given = {}
    monkeypatch.setattr(setuptools, 'setup', lambda **arguments: given.update(arguments))
    monkeypatch.chdir(ROOT)
    runpy.run_path('setup.py')
    return given


def released_versions():
    """Return the numbered sections of the changelog, newest first."""
    text = (ROOT / 'CHANGELOG.rst').read_text(encoding='utf-8')
    return re.findall(r'^(\d+\.\d+\.\d+) \(\d{4}-\d\d-\d\d\)\n-+$', text, re.MULTILINE)


def project_files(pattern):
    """Yield the project's own files, not those of environments and results."""
    skipped = {'.venv', '.git', 'output', 'build', 'install', 'log'}
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in skipped]
        yield from (Path(folder, name) for name in names if re.search(pattern, name))


def test_one_version_everywhere(setup_arguments):
    version = MANIFEST.findtext('version')
    assert setup_arguments['version'] == version
    assert mmperception.__version__ == version
    assert released_versions()[0] == version


def test_the_changelog_has_what_comes_next_on_top():
    sections = re.findall(
        r'^(.+)\n-+$', (ROOT / 'CHANGELOG.rst').read_text(encoding='utf-8'), re.MULTILINE
    )
    assert sections[0] == 'Forthcoming'
    assert [s.split()[0] for s in sections[1:]] == released_versions()


def test_rosdep_can_install_every_dependency_without_pip():
    assert MANIFEST.get('format') == '3'
    assert not [key for key in DEPENDS if key.endswith('-pip') or 'open3d' in key]
    assert {'python3-torch', 'python3-numpy', 'python3-opencv', 'python3-pyproj'} <= set(DEPENDS)


def test_every_ros_package_that_is_imported_is_a_dependency():
    provided_by = {'tf2_ros': 'tf2_ros_py'}
    imported = set()
    for path in (*PACKAGE.rglob('*.py'), *(ROOT / 'launch').glob('*.py')):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split('.')[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.split('.')[0])
    ros = {m for m in imported if re.search(r'_msgs$|^(rclpy|rosbag2|tf2|launch|cv_bridge)', m)}
    assert not {provided_by.get(name, name) for name in ros} - set(DEPENDS)


def test_every_licence_that_is_named_has_its_file():
    files = [element.get('file') for element in MANIFEST.findall('license')]
    assert files[0] == 'LICENSE'
    assert not [name for name in files if not (ROOT / name).is_file()]


def test_neither_manifest_pins_an_upper_version(setup_arguments):
    bounds = {'version_lt', 'version_lte', 'version_eq'}
    assert not [e.text for e in DEPENDS.values() if bounds & set(e.attrib)]
    extras = setup_arguments['extras_require'].values()
    for requirement in (*setup_arguments['install_requires'], *sum(extras, [])):
        assert re.fullmatch(r'[\w-]+(>=[\d.]+)?', requirement)


def test_the_lock_pins_every_package_and_names_no_index():
    for path in (ROOT / 'environment').glob('requirements*.txt'):
        lines = [line.split('#')[0].strip() for line in path.read_text().splitlines()]
        for line in filter(None, lines):
            assert re.fullmatch(
                r"[\w-]+(\[\w+\])?==[\w.]+(; python_version (<|>=) '3\.\d+')?", line
            ), line


def test_no_file_names_the_host_of_a_package_index():
    hosts = re.compile(r'pypi\.(org|python)|pythonhosted|download\.pytorch|anaconda\.org')
    text = re.compile(r'\.(py|txt|md|rst|yaml|xml|cfg|toml)$|^(Makefile|run)$')
    found = [
        path
        for path in project_files(text)
        if path != Path(__file__) and hosts.search(path.read_text(encoding='utf-8'))
    ]
    assert not found


def test_all_that_runs_is_installed(setup_arguments):
    folders = {path.parent.relative_to(ROOT) for path in PACKAGE.rglob('*.py')}
    assert set(setup_arguments['packages']) == {'.'.join(folder.parts) for folder in folders}
    installed = {name for _, names in setup_arguments['data_files'] for name in names}
    shipped = [*ROOT.glob('launch/*.launch.py'), *ROOT.glob('config/*')]
    assert len(shipped) >= 4
    assert installed >= {str(path.relative_to(ROOT)) for path in shipped}
    assert {'resource/mmperception', 'package.xml'} <= installed


def test_shipped_weights_are_installed_with_their_cards(setup_arguments):
    weights = list(PACKAGE.glob('weights/*.safetensors'))
    patterns = setup_arguments['package_data']['mmperception']
    for path in weights:
        assert path.with_suffix('.md').is_file(), f'{path.name} has no model card'
    assert {'weights/*.safetensors', 'weights/*.md'} <= set(patterns)


def test_every_command_has_a_main_function(setup_arguments):
    commands = dict(
        line.split(' = ') for line in setup_arguments['entry_points']['console_scripts']
    )
    assert set(commands) == {'mmperception', 'perception', 'perception_node', 'path_cost_node'}
    for target in commands.values():
        module, function = target.split(':')
        source = ROOT / Path(*module.split('.')).with_suffix('.py')
        assert source.is_file(), f'{target}: no such module'
        tree = ast.parse(source.read_text(encoding='utf-8'))
        assert function in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}, target


def test_every_python_file_names_its_licence_first():
    bare = [
        path
        for path in project_files(r'\.py$')
        if not path.read_text(encoding='utf-8').startswith('# SPDX-License-Identifier: Apache-2.0')
    ]
    assert not bare


def test_the_nav2_overlay_keeps_out_of_the_known_traps():
    overlay = yaml.safe_load((ROOT / 'config/nav2_overlay.yaml').read_text(encoding='utf-8'))
    local = overlay['local_costmap']['local_costmap']['ros__parameters']
    layer = local['obstacle_layer']
    assert local['rolling_window'] and local['track_unknown_space']
    assert local['global_frame'] == 'odom' and local['resolution'] >= 0.1
    assert local['path_cost_filter']['filter_info_topic'] == '/costmap_filter_info'
    sources = {name: layer[name] for name in layer['observation_sources'].split()}
    roles = {name: (s['marking'], s['clearing']) for name, s in sources.items()}
    assert roles == {'obstacle_points': (True, True), 'ground_points': (False, True)}
    for name, source in sources.items():
        assert source['topic'] == f'/{name}' and source['data_type'] == 'PointCloud2'
        assert 0 < source['expected_update_rate'] <= 1
        assert source['max_obstacle_height'] - source['min_obstacle_height'] > 100
    everywhere = overlay['global_costmap']['global_costmap']['ros__parameters']
    assert 'filters' not in everywhere


def test_the_local_costmap_fits_into_the_cost_grid_with_margin():
    grid = Config().path_cost
    overlay = yaml.safe_load((ROOT / 'config/nav2_overlay.yaml').read_text(encoding='utf-8'))
    local = overlay['local_costmap']['local_costmap']['ros__parameters']
    assert local['width'] * 1.2 <= grid.resolution_m * grid.cells
    assert local['width'] / local['resolution'] < grid.cells
    assert grid.resolution_m <= local['resolution']
    assert grid.rate_hz >= local['update_frequency']
