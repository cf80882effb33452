"""Files of released weights: opened without running code, unwrapped, named, recognised, written as safetensors."""
