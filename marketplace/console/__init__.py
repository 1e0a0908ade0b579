"""The staff edge: review, money and repair, on Django's admin site."""
