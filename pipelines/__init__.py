"""The stages, `tfasr STAGE`: one file a stage with `run(config)`."""
