"""The images: what is in them, what is not, and when they are built again."""

from __future__ import annotations

import json
import re
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from e2e import images
from e2e.images import MODEL_SERVER, OPERATOR, Image, ImageError, Source


@dataclass(frozen=True)
class Contents:
    """An image taken apart."""

    config: dict[str, Any]
    references: list[str]
    files: dict[str, int]
    """Sizes by path, of all layers together."""


def take_apart(image: Image) -> Contents:
    with tarfile.open(image.archive) as archive:

        def read(name: str) -> Any:
            member = archive.extractfile(name)
            assert member is not None
            return json.load(member)

        manifest = read("manifest.json")[0]
        files: dict[str, int] = {}
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=archive.extractfile(layer)) as content:
                files |= {member.name.lstrip("./"): member.size for member in content}
        return Contents(read(manifest["Config"])["config"], manifest["RepoTags"], files)


@pytest.fixture(scope="module")
def operator() -> Contents:
    return take_apart(images.operator())


@pytest.fixture(scope="module")
def model_server() -> Contents:
    return take_apart(images.model_server())


@pytest.fixture(params=["operator", "model_server"])
def either(request: pytest.FixtureRequest) -> Contents:
    contents: Contents = request.getfixturevalue(request.param)
    return contents


def test_an_image_runs_as_a_user_without_rights_and_holds_no_installer(either: Contents) -> None:
    assert either.config["User"] == "65532:65532"
    assert either.config["Entrypoint"][0] == "python"
    unwanted = re.compile(r"opt/venv/.*/site-packages/(pip|setuptools|wheel)/|/tests/test_|opt/builder/")
    assert [path for path in either.files if unwanted.search(path)] == []


def test_nothing_of_the_machine_that_built_an_image_stays_in_it(either: Contents) -> None:
    assert {"etc/pip.conf", "etc/hostname", "etc/resolv.conf"}.isdisjoint(
        path for path, size in either.files.items() if size
    )
    environment = "\n".join(either.config["Env"])
    assert not re.search(r"(?i)pip_|proxy|cert", environment)


def test_all_python_files_are_compiled_so_that_a_start_writes_and_compiles_nothing(either: Contents) -> None:
    site = re.compile(r"opt/(venv/lib/python[\d.]+/site-packages|operator)/")
    sources = [path for path in either.files if site.match(path) and path.endswith(".py")]
    compiled = {re.sub(r"__pycache__/([^/]+)\.cpython-\d+\.pyc$", r"\1.py", path) for path in either.files}

    assert len(sources) > 500
    missing = [path for path in sources if path not in compiled]
    assert len(missing) < 20, "a few templates are not Python"


def test_the_operator_is_in_its_image_in_a_layer_that_is_small(operator: Contents) -> None:
    assert "opt/operator/modelrelease/__main__.py" in operator.files
    assert any(re.fullmatch(r"opt/operator/modelrelease-.*\.dist-info/METADATA", path) for path in operator.files)
    assert sum(size for path, size in operator.files.items() if path.startswith("opt/operator")) < 5_000_000


def test_an_image_is_named_by_its_content_and_found_again_at_once() -> None:
    first = images.operator()
    began = time.monotonic()
    again = images.operator(say=lambda text: pytest.fail(f"built again: {text}"))

    assert again == first
    assert time.monotonic() - began < 5
    assert take_apart(first).references == [first.reference]


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        pytest.param(lambda folder: (folder / "code" / "a.py").write_text("2"), True, id="a source changes"),
        pytest.param(lambda folder: (folder / "code" / "b.py").write_text(""), True, id="a source is added"),
        pytest.param(lambda folder: (folder / "code" / "a.py").rename(folder / "code" / "c.py"), True, id="one moves"),
        pytest.param(lambda folder: (folder / "README.md").write_text("2"), False, id="a file that is no input"),
        pytest.param(lambda folder: (folder / "code" / "a.py").touch(), False, id="a time stamp"),
        pytest.param(lambda folder: _cache(folder).write_text("2"), False, id="bytecode"),
    ],
)
def test_a_name_changes_exactly_with_the_inputs(
    tmp_path: Path, change: Callable[[Path], object], differs: bool
) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a.py").write_text("1")
    (tmp_path / "Dockerfile").write_text("FROM x")
    source = Source("s", tmp_path, ("Dockerfile", "code"))
    before = images._digest(source, "base")

    change(tmp_path)

    assert (images._digest(source, "base") != before) == differs
    assert images._digest(source, "other base") != images._digest(source, "base")


def test_a_missing_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"image s: .*Dockerfile is missing"):
        images._digest(Source("s", tmp_path, ("Dockerfile",)), "base")


def test_every_file_that_a_dockerfile_copies_is_an_input_and_let_through_by_dockerignore() -> None:
    for source in (OPERATOR, MODEL_SERVER):
        dockerfile = (source.directory / "Dockerfile").read_text()
        copied = {
            name.removeprefix("./")
            for line in re.findall(r"^COPY (?!--from)(.*) \S+$", dockerfile, re.MULTILINE)
            for name in line.split()
        }
        allowed = set(re.findall(r"^!(.*)$", (source.directory / ".dockerignore").read_text(), re.MULTILINE))
        assert copied | {"Dockerfile"} == set(source.inputs)
        assert copied == allowed


def _cache(folder: Path) -> Path:
    (folder / "code" / "__pycache__").mkdir()
    return folder / "code" / "__pycache__" / "a.cpython-311.pyc"
