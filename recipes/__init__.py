"""Recipes: whole training runs from nothing. They are not part of the installed package."""
