"""Small widgets that know nothing of models: sections, switches, sliders, tables."""
