"""SavedModels with frozen blocks."""
