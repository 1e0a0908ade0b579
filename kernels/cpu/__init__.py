"""Operations on CPUs: fewer passes in plain torch, or C++ that torch's inductor compiles."""
