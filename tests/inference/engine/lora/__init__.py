"""Tests of the GPU plane."""
