"""`make bench-pages`: how fast pages are when an organisation has very many jobs."""
