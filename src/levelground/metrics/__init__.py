"""Predictions and labels -> counts, and counts -> scores; every definition of a metric lives here."""
