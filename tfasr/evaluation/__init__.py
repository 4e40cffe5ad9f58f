"""Error rates with confidence intervals."""
