"""The letters used for shapes throughout the engine.

B  sequences in a batch                 H  query heads
T  new tokens of a forward pass         G  key/value heads (H is a multiple of G)
S  stored + new tokens                  D  width of a head
V  vocabulary size                      C  width of the residual stream (d_model)
L  number of blocks                     F  inner width of the MLP (d_ff)
r  rank of an adapter
"""
