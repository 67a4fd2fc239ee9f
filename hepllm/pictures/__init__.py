"""All pictures, drawn with matplotlib's object interface in one style."""
