"""What the panels that train share: numbered parts, the choice of data, a run while it goes on."""
