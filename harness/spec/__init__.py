"""What a person writes: TOML files validated into pydantic models."""
