"""What the gallery's address may say: each part is checked, and a wrong one does not count."""

from decimal import Decimal
from typing import Any

from django import forms
from django.http import QueryDict
from django.utils.http import urlencode

from marketplace.catalog.gallery import Order, Use, Wish
from marketplace.catalog.models import Task
from marketplace.core.money import to_nano

_ANY = ("", "Any")
_PRICES = [
    _ANY,
    ("0", "Free"),
    *((most, f"up to ${most}") for most in ("0.002", "0.005", "0.02", "0.10", "1.00")),
]
_SPEEDS = [
    _ANY,
    *(("1", "under 1 s"), ("5", "under 5 s"), ("30", "under 30 s"), ("120", "under 2 min")),
]
TASKS = {
    Task.TEXT_TO_IMAGE: "Text to image",
    Task.IMAGE_TO_IMAGE: "Image to image",
    Task.TEXT_TO_VIDEO: "Text to video",
    Task.IMAGE_TO_VIDEO: "Image to video",
}


class GalleryForm(forms.Form):
    """The finder of the gallery: works as plain GET, and by htmx while somebody types."""

    q = forms.CharField(
        label="Search models",
        max_length=200,
        required=False,
        widget=forms.TextInput(
            attrs={"type": "search", "placeholder": "Search models and vendors"}
        ),
    )
    task = forms.ChoiceField(
        label="Category",
        choices=[("", "All"), *TASKS.items()],
        required=False,
        widget=forms.RadioSelect,
    )
    licence = forms.ChoiceField(label="Licence", choices=[_ANY, *Use.choices], required=False)
    price = forms.ChoiceField(label="One output costs", choices=_PRICES, required=False)
    speed = forms.ChoiceField(label="Takes", choices=_SPEEDS, required=False)
    sort = forms.ChoiceField(label="Sort by", choices=Order.choices, required=False)
    page = forms.IntegerField(min_value=1, max_value=100, required=False)


class Search:
    """A search as its address asks for it: `form` shows it, `wish` is what is looked for."""

    def __init__(self, data: QueryDict) -> None:
        checked = GalleryForm(data)
        checked.is_valid()
        self.asked: dict[str, Any] = {
            name: value for name, value in checked.cleaned_data.items() if value not in ("", None)
        }
        self.form = GalleryForm(
            initial={"task": "", "sort": Order.POPULAR} | self.asked, auto_id="find-%s"
        )

    @property
    def page(self) -> int:
        """Return which page is asked for, from 1."""
        return int(self.asked.get("page", 1))

    @property
    def narrows(self) -> bool:
        """Tell whether something else than the order is asked for."""
        return bool(self.asked.keys() - {"sort", "page"})

    def wish(self) -> Wish:
        """Return what is looked for."""
        asked = self.asked
        return Wish(
            text=asked.get("q", ""),
            task=asked.get("task", ""),
            use=asked.get("licence", ""),
            most_nano=to_nano(Decimal(asked["price"])) if "price" in asked else None,
            most_ms=int(asked["speed"]) * 1000 if "speed" in asked else None,
            order=asked.get("sort", Order.POPULAR),
        )

    def address(self, **changes: Any) -> str:
        """Return the query of this search with some parts changed: None takes one away."""
        parts = {name: value for name, value in (self.asked | changes).items() if value is not None}
        return f"?{urlencode(parts)}" if parts else ""

    def chosen(self) -> list[tuple[str, str]]:
        """Return what narrows the search, in words, each with the address that drops it."""
        found = []
        for name in self.asked.keys() - {"sort", "page"}:
            field, value = self.form.fields[name], self.asked[name]
            choices: Any = field.choices if isinstance(field, forms.ChoiceField) else ()
            labels = dict(choices)
            words = f"“{value}”" if name == "q" else str(labels[value])
            if name == "price":
                words = f"Output {words}" if value != "0" else words
            found.append((words, self.address(**{name: None, "page": None})))
        return sorted(found)
