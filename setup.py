"""Installs the four rooms as one package: tfzoo, tfzoo.export, tfzoo.serving, tfzoo.benchmarks."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
SIDE_ROOMS = ("export", "serving", "benchmarks")
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "tfzoo" / "__init__.py").read_text())[1]

packages = find_packages(include=["tfzoo", "tfzoo.*"])
for room in SIDE_ROOMS:
    packages += [f"tfzoo.{room}", *(f"tfzoo.{room}.{inner}" for inner in find_packages(room))]

setup(
    name="tfzoo",
    version=VERSION,
    description="Keras models for dense vision that train with fit, and exports that are proved",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=packages,
    package_dir={"tfzoo": "tfzoo", **{f"tfzoo.{room}": room for room in SIDE_ROOMS}},
    package_data={
        "tfzoo": ["*.json"],
        "tfzoo.weights": ["trained/*"],
        "tfzoo.serving": ["*.yml"],
        "tfzoo.benchmarks": ["contestants/*.py"],
    },
    install_requires=(HERE / "requirements.txt").read_text().split("\n# development\n")[0].splitlines(),
    extras_require={
        "serving": ["tensorflow-serving-api~=2.21.0"],
        "jax": ["jax"],
        "openvino": ["openvino>=2025.0"],
        "proposals": ["opencv-contrib-python-headless"],
    },
    entry_points={"console_scripts": ["tfzoo = tfzoo.cli:main"]},
)
