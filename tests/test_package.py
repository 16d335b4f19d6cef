"""The package itself: light to import, and whole when installed from a wheel."""

import pathlib
import shutil
import subprocess
import sys
import zipfile

ROOT = pathlib.Path(__file__).parents[1]


def test_importing_is_light():
    program = "import sys, time; start = time.perf_counter(); import tfzoo; print(time.perf_counter() - start, *sys.modules)"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert float(out[0]) < 1
    assert not {"tensorflow", "keras", "numpy"} & set(out[1:])


def test_listing_models_needs_no_tensorflow():
    program = (
        "import sys, tfzoo; tfzoo.list_models('semantic'); assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_wheel_holds_all_four_rooms(tmp_path):
    # Built from a copy: setuptools leaves a build folder behind, which a later wheel would pack again.
    copy = shutil.copytree(ROOT, tmp_path / "copy", ignore=shutil.ignore_patterns(".*", "build", "runs", "tfzoo-demo"))
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(copy)], check=True
    )
    (wheel,) = tmp_path.glob("tfzoo-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    for room in ("models", "data", "export", "serving", "benchmarks"):
        assert f"tfzoo/{room}/__init__.py" in names
    assert {"tfzoo/serving/docker-compose.yml", "tfzoo/model_facts.json"} <= set(names)
    assert {name.split("/")[0] for name in names} == {"tfzoo", next(n for n in names if "dist-info" in n).split("/")[0]}
    program = "import tfzoo.export, tfzoo.serving, tfzoo.benchmarks; print(tfzoo.export.__file__)"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path / "site", capture_output=True, text=True, check=True)
    assert str(tmp_path / "site") in done.stdout
