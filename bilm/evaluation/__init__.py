"""Figures: computed from models and predictions, compared, kept in results/, printed and drawn."""
