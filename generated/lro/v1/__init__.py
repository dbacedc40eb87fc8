"""Written by `make generate` from protos/. Do not edit."""
