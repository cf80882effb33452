"""Models to ONNX: any dual encoder, in fp32 or int8."""
