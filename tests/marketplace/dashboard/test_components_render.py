"""Shared parts of pages: tiles, sparklines, samples, links to pages before and after."""

from django.template.loader import render_to_string

from marketplace.catalog.sample_models import SampleOutput
from marketplace.dashboard import charts


def component(part, **context):
    return render_to_string(f"components/{part}.html", context)


def test_a_sparkline_reaches_from_side_to_side_and_its_peak_to_the_top():
    assert charts.line([0, 5, 10]) == "M0.00 28.00 L50.00 15.00 L100.00 2.00"


def test_a_sparkline_of_noughts_is_a_flat_line_and_one_point_is_none():
    assert charts.line([0, 0]) == "M0.00 28.00 L100.00 28.00"
    assert charts.line([3]) == ""


def test_a_sparkline_has_no_depths_and_may_have_a_top_of_its_own():
    assert charts.line([-3, -1]) == "M0.00 28.00 L100.00 28.00"
    assert charts.line([0, 50], top=100) == "M0.00 28.00 L100.00 15.00"


def test_a_tile_says_its_figure_and_draws_its_line():
    page = component("stat", label="Spent", value="$1.20", note="today", spark=[1, 2])
    assert "<dt>Spent</dt>" in page
    assert "$1.20" in page
    assert 'class="sparkline"' in page
    assert "<svg" not in component("stat", label="Spent", value="$1.20")


def test_a_sample_is_a_picture_a_clip_or_the_placeholder_of_the_name():
    kept = SampleOutput(content_type="image/png", width=640, height=480)
    picture = component("sample", sample=kept, alt="A <b>", width=1, height=1)
    assert f'<img src="/samples/{kept.pk}.png" alt="A &lt;b&gt;"' in picture
    assert 'width="640" height="480"' in picture
    clip = component("sample", sample=SampleOutput(content_type="video/mp4"), controls=True)
    assert "<video" in clip
    assert "controls" in clip
    assert 'class="art"' in component("sample", sample=None, name="a/b")


def test_pages_are_linked_where_there_are_any():
    assert component("pagination").strip() == ""
    assert 'rel="next" href="?before=7"' in component("pagination", older="?before=7")


def test_an_empty_list_says_what_to_do_next():
    page = component("empty", title="No keys", action="/new/", action_label="Make one")
    assert "<h2>No keys</h2>" in page
    assert 'href="/new/">Make one' in page
