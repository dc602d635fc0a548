"""Export runs for other tools: ONNX files and SMP folders, each checked against the run's network, and model cards."""
