# SPDX-License-Identifier: Apache-2.0
"""Install the package the ament_python way: all sub-packages, weights, launch and config."""

from glob import glob

from setuptools import find_packages, setup

NAME = 'mmperception'

setup(
    name=NAME,
    version='0.1.0',
    description='Camera, LiDAR and GPS to obstacles, signs and path cost, for ROS 2.',
    author='mmperception developers',
    maintainer='mmperception developers',
    maintainer_email='maintainers@mmperception.invalid',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=[NAME, f'{NAME}.*']),
    package_data={NAME: ['weights/*.safetensors', 'weights/*.md', 'ros/*.xml']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{NAME}']),
        (f'share/{NAME}', ['package.xml']),
        (f'share/{NAME}/launch', glob('launch/*.launch.py')),
        (f'share/{NAME}/config', [*glob('config/*'), f'{NAME}/ros/fastdds.xml']),
    ],
    install_requires=['setuptools', 'numpy', 'torch', 'pyproj', 'pyyaml', 'tqdm'],
    extras_require={'test': ['pytest', 'hypothesis']},
    zip_safe=False,
    entry_points={
        'console_scripts': [
            'mmperception = mmperception.cli.main:main',
            'perception = mmperception.ros.perception:main',
            'perception_node = mmperception.ros.perception_node:main',
            'path_cost_node = mmperception.ros.path_cost_node:main',
        ],
    },
)
