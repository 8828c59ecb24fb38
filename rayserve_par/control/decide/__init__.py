"""Decisions as pure functions: frozen state in, wanted instances and the reason out."""
