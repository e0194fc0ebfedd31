"""Export: a trained policy as a folder for numpy alone, or as a model for onnxruntime."""
