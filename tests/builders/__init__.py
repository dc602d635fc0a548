"""Builders of what tests need: scenes, studies, runs, counts, models, records, and bad cases of each."""
