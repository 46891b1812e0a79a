"""What a plugin builds: modalities, encoders, loaders, objectives and tasks."""
