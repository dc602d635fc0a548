"""Runs in, models out that other tools can run: ONNX files, SMP folders, model cards; each checked against the run."""
