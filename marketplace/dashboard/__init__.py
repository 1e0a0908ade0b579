"""The HTML edge for people: gallery, developer pages and vendor pages."""
