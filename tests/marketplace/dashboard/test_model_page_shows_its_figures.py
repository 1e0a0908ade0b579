"""The speed and quality card: figures of these very weights, or a word that there are none."""

import pytest

from marketplace.catalog.models import Version
from marketplace.dashboard import figures
from tests.figures import write_results

MODEL = "/models/atelier/sketch/"


@pytest.fixture
def measured(tmp_path, monkeypatch, cast):
    digest = Version.objects.get(model__name="sketch").weights_digest
    write_results(tmp_path, digest)
    monkeypatch.setattr(figures, "RESULTS", tmp_path)
    return digest


def test_the_card_has_a_row_for_each_quality_and_the_plot(visitor, measured):
    page = visitor.get(MODEL).content.decode()
    assert "Measured on a CPU with 512 prompts" in page
    assert "91.2 %" in page
    assert "88.9 %" in page
    assert "31 ms" in page
    assert "29.4" in page
    assert "<svg" in page
    assert "&lt;svg" not in page
    assert "<code>taylor</code>" in page


def test_what_could_not_be_measured_is_left_out(visitor, measured):
    assert "<code>compiled</code>" not in visitor.get(MODEL).content.decode()


def test_the_quality_of_this_version_is_marked(visitor, measured):
    page = visitor.get(MODEL).content.decode()
    assert 'exact <span class="pill calm">this version</span>' in page
    assert page.count("this version</span>") == 1


def test_other_weights_borrow_no_figures(visitor, cast, tmp_path, monkeypatch):
    write_results(tmp_path, "sha256:" + "1" * 64)
    monkeypatch.setattr(figures, "RESULTS", tmp_path)
    page = visitor.get(MODEL).content.decode()
    assert "Not measured." in page
    assert "512 prompts" not in page


def test_no_results_at_all_are_no_failure(visitor, cast, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "RESULTS", tmp_path / "absent")
    assert "Not measured." in visitor.get(MODEL).content.decode()


def test_the_committed_results_can_be_read():
    for digest, card in figures._all(figures.RESULTS):
        assert digest.startswith("sha256:")
        assert [row["variant"] for row in card.levels] == ["exact", "high", "fast"]
        assert card.plot.startswith("<svg")
