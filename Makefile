# One command each: `make help`.
