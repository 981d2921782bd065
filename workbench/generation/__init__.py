"""Text from a model: sampling, streaming replies, chat with prefix reuse, and scoring."""
