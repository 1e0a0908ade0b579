"""Models, immutable versions, input schemas, licences, prices and review."""
