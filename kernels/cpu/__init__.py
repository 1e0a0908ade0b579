"""Operations on CPUs: fewer passes in plain torch, or C++ that torch's inductor compiles."""

import kernels.ops  # noqa: F401 - they register what is here, whichever of the two comes first
