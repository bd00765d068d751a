"""Part V: what connects the parts."""
