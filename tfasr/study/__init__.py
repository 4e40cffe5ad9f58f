"""Which blocks matter: reset one at a time and evaluate."""
