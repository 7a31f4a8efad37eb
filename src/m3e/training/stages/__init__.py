"""The stages of a recipe, each a model folder in and a model folder out."""
