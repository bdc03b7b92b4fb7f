"""The attribute table is whole, and every cell says where it comes from."""

from gleanet.frameworks.attributes import attributes
from gleanet.frameworks.catalogue import FRAMEWORKS


def test_every_framework_has_all_fifteen_attributes() -> None:
    found = attributes()
    assert len(found.names) >= 15
    assert len(found.frameworks) >= 12
    for title, cells in found.frameworks.items():
        assert list(cells) == list(found.names), title
        assert all(cell.value for cell in cells.values()), title


def test_every_cell_has_a_source_or_says_that_none_was_found() -> None:
    for title, cells in attributes().frameworks.items():
        for key, cell in cells.items():
            sourced = cell.source == "measured" or cell.source.startswith(("https://", "http://"))
            confessed = cell.source == "" and ("found" in cell.value)
            assert sourced or confessed, f"{title}: {key}: {cell}"


def test_every_row_of_the_catalogue_is_described() -> None:
    titles = {title.split()[0].lower() for title in attributes().frameworks}
    assert {framework.title.split()[0].lower().rstrip(",") for framework in FRAMEWORKS} <= titles | {"onnx"}


def test_versions_that_are_named_as_the_last_are_the_pinned_ones_of_today() -> None:
    """So that renewing a pin reminds of the table. PyTorch is pinned older than its newest."""
    for name, title in (("jax", "JAX"), ("keras", "Keras 3"), ("tinygrad", "tinygrad"), ("paddle", "PaddlePaddle"), ("mxnet", "MXNet")):
        framework = next(row for row in FRAMEWORKS if row.name == name)
        pin = next(word.partition("==")[2] for words in framework.install for word in words if word.startswith(f"{framework.package}=="))
        assert attributes().frameworks[title]["releases"].value.endswith(pin)
