"""Namepin inside other libraries."""
