"""All that touches disk, clock or terminal; it knows no model."""
