"""Processes of scenarios, one module for each kind. ``child`` starts them and sends requests, ``serving`` is their side."""
