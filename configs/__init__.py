"""Hydra configuration: the schema in `equirl.configs.schema`, the values in the YAML files."""
