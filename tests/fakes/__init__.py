"""Doubles that misbehave on purpose, each named after its fault."""
